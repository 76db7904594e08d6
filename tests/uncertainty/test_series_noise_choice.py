"""Validation series decide whether a match looks at the noise of each series; without any of another dose it does not."""

import pytest
from doses import OTHER_HU, USUAL_HU, save_match_model, write_doses
from tiny_run import one_thread, save_tiny_model  # noqa: F401

from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.procedure import Procedure
from ltdiff.model.model_folder import CALIBRATION_FILE, USES_SERIES_NOISE, write_calibration
from ltdiff.uncertainty import series_noise_choice
from ltdiff.uncertainty.series_noise_choice import DISTANCES, choose_series_noise

MATCH = InferenceConfig(output="match")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_match_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def one_of_another_dose(tmp_path_factory):
    return write_doses(tmp_path_factory.mktemp("doses"), (USUAL_HU, OTHER_HU))


def test_noise_of_its_own_brings_a_series_of_another_dose_to_the_target(model, one_of_another_dose):
    found = choose_series_noise(model, one_of_another_dose)
    assert found[USES_SERIES_NOISE] is True
    assert found[DISTANCES]["protocol"] == pytest.approx(1.83, abs=0.2)  # 2 log(50/20)
    assert found[DISTANCES]["series"] < 0.4


def test_it_is_not_used_where_it_gains_too_little(model, one_of_another_dose, monkeypatch):
    monkeypatch.setattr(series_noise_choice, "LEAST_GAIN", 2.0)
    assert choose_series_noise(model, one_of_another_dose)[USES_SERIES_NOISE] is False


def test_series_of_one_dose_need_none(model, tmp_path):
    assert choose_series_noise(model, write_doses(tmp_path, (USUAL_HU, USUAL_HU))) == {USES_SERIES_NOISE: False}


def test_a_model_that_was_fitted_to_no_noise_has_no_choice(one_of_another_dose, tmp_path):
    other = save_tiny_model(tmp_path / "model", source_kernel="B", target_kernel="L")
    assert choose_series_noise(other, one_of_another_dose) == {}


@pytest.mark.parametrize("is_used", [True, False])
def test_the_choice_is_read_and_images_say_so(model, is_used):
    write_calibration(model, {"output": "match", USES_SERIES_NOISE: is_used})
    for procedure in (Procedure.read(model, InferenceConfig()), Procedure.read(model, MATCH)):
        assert (procedure.series_noise is not None) is is_used
        assert procedure.is_linear is not is_used
        assert ("for a series of another dose" in procedure.describe_sampling("fp32")) is is_used


def test_a_damaged_calibration_does_not_hinder_a_new_one(model, one_of_another_dose):
    (model / CALIBRATION_FILE).write_text("{")
    assert Procedure.read(model, MATCH).series_noise is None
    assert choose_series_noise(model, one_of_another_dose)[USES_SERIES_NOISE] is True
