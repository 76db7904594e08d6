"""The shipped pretrained weights: they fill the default networks, are small, and know more than random weights."""

from importlib import resources

import pytest
import torch

from ltdiff.model.config import AutoencoderConfig, ModelConfig
from ltdiff.model.ltdiff import LTDiff, load_pretrained_weights

MAX_BYTES = 10_000_000


def test_default_networks_are_filled_and_the_kernel_match_stays():
    model = LTDiff(ModelConfig())
    model.kernel_match.gains.fill_(2.0)
    assert not model.denoiser.leave[0].weight.any()  # zero before training
    load_pretrained_weights(model)
    assert model.denoiser.leave[0].weight.any()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert (model.kernel_match.gains == 2).all()


def test_they_are_small_and_have_a_model_card():
    folder = resources.files("ltdiff.configs") / "pretrained"
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= MAX_BYTES
    card = (folder / "README.md").read_text()
    for heading in ("Data", "Licence", "Limits", "Figures"):
        assert f"## {heading}" in card


def test_other_shapes_are_refused_and_nothing_is_filled():
    model = LTDiff(ModelConfig(autoencoder=AutoencoderConfig(channels=(32, 48, 80))))
    before = model.networks.state_dict()["encoder.stem.fuse.weight"].clone()
    with pytest.raises(ValueError, match=r"of the default shapes .*init=scratch"):
        load_pretrained_weights(model)
    assert torch.equal(model.networks.state_dict()["encoder.stem.fuse.weight"], before)
