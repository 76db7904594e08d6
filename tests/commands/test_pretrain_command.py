"""Pretrained weights from simulated scans: made once, resumed, and of the shapes that the package ships."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from safetensors.torch import load_file
from tiny_run import few_validation_patches, one_thread  # noqa: F401

from ltdiff.commands import pretrain_command
from ltdiff.commands.pretrain_command import WEIGHTS_FILE, pretrain
from ltdiff.data.manifest import read_hu, read_manifest
from ltdiff.model.config import AutoencoderConfig, ModelConfig
from ltdiff.model.ltdiff import LTDiff
from ltdiff.model.model_folder import read_description
from ltdiff.simulation import continuum

SMALL = {"num_views": 300, "num_detectors": 320, "detector_pitch_mm": 2.6}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Small scans, simulated in this process: the networks are of the shipped size."""
    draw = continuum.draw_config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_command, "OwnProcesses", ThreadPoolExecutor)
        patch.setattr(continuum, "draw_config", lambda rng: _small(draw(rng)))
        yield


def _small(config):
    return replace(config, matrix=192, scanner=replace(config.scanner, **SMALL))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("pretrain")


@pytest.fixture(scope="module")
def weights(out):
    return _pretrain(out)


def _pretrain(out):
    assert pretrain(out=out, num_scans=2, slices_per_scan=1, minutes=0.01, seed=0) == 0
    return out / WEIGHTS_FILE


def test_weights_are_of_the_shapes_that_are_shipped(out, weights):
    without_finish = ModelConfig(autoencoder=AutoencoderConfig(refinement_channels=0))
    fit = LTDiff(without_finish).networks.load_state_dict(load_file(weights), strict=False)
    assert not fit.unexpected_keys
    assert {key.split(".")[0] for key in fit.missing_keys} == {"residual_flow"}
    trained = read_description(out / "training" / "model")["about"]["trained"]
    assert {name: phase["step"] > 0 for name, phase in trained.items()} == dict.fromkeys(("autoencoder", "ddpm", "joint"), True)


def test_what_is_done_is_not_done_again(out, weights):
    kept = [*(out / "scans").iterdir(), *out.glob("training/*/model/*.safetensors")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    _pretrain(out)
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_sources_are_matched_to_their_targets(out, weights):
    manifest = read_manifest(out / "pairs.parquet")
    assert sorted(manifest["split"]) == ["train", "train", "val", "val"]
    for _, pair in manifest.groupby("pair_id"):
        source, target = (read_hu(pair[pair["role"] == role].iloc[0].to_dict()) for role in ("source", "target"))
        assert abs(float((source - target)[target > -950].mean())) < 3  # a linear match is unbiased
