"""What a calibration knows of B − A' is kept, or refused in one sentence."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ltdiff.model.model_folder import CALIBRATION_FILE
from ltdiff.model.residual_model import FlowUse, ResidualModel, read_output, read_residual_model, require_residual_model
from ltdiff.model.residual_noise import fit_residual_noise


@pytest.fixture(scope="module")
def noise():
    random = np.random.default_rng(0)
    images = random.normal(0, 50, (2, 64, 64)).astype(np.float32)
    return fit_residual_noise([images[0]], [images[1]], range_hu=(-1024.0, 3071.0))


def test_json_keeps_it(noise):
    for flow in (None, FlowUse(noise), FlowUse(noise, mean_gain=(0.9,), gain=(1.0, 0.5))):
        model = ResidualModel(noise, flow)
        assert ResidualModel.from_dict(json.loads(json.dumps(asdict(model)))) == model


def test_another_calibration_has_another_digest(noise):
    models = [ResidualModel(noise, flow) for flow in (None, FlowUse(noise), FlowUse(noise, mean_gain=(1.0,)))]
    assert len({model.digest for model in models}) == 3
    assert replace(models[0]).digest == models[0].digest
    assert [model.corrects_mean for model in models] == [False, False, True]


def test_a_folder_without_calibration_has_none(tmp_path):
    assert read_residual_model(tmp_path) is None
    assert read_output(tmp_path) == "mean"
    with pytest.raises(ValueError, match="is not calibrated; run `ltdiff calibrate"):
        require_residual_model(tmp_path)


def test_a_model_that_is_its_match_has_none(tmp_path):
    (tmp_path / CALIBRATION_FILE).write_text('{"output": "match"}')
    assert read_residual_model(tmp_path) is None
    assert read_output(tmp_path) == "match"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"residual": {}}', '{"residual": {"noise": {"roughness_edges_hu": 1}}}'])
def test_a_damaged_file_is_one_sentence(content, tmp_path):
    (tmp_path / CALIBRATION_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"calibration\.json is damaged"):
        read_residual_model(tmp_path)
