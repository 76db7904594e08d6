"""Small networks, every weight of which does something."""

import pytest
import torch
from tiny_run import one_thread  # noqa: F401

from ltdiff.model.config import AutoencoderConfig, DenoiserConfig, ModelConfig
from ltdiff.model.ltdiff import LTDiff


def _make_model(**autoencoder):
    channels, latent_channels = (4, 6, 8), (2, 3, 1)
    config = ModelConfig(
        autoencoder=AutoencoderConfig(
            channels=channels, latent_channels=latent_channels, **{"image_latent": False} | autoencoder
        ),
        denoiser=DenoiserConfig(channels=(4, 6, 8), num_blocks=1, embedding_size=8),
    )
    torch.manual_seed(0)
    model = LTDiff(config)
    with torch.no_grad():
        for parameter in model.parameters():  # also those that start at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def make_model():
    """make_model(scale=…, encoder_skips=…) -> an LTDiff of three levels with random weights."""
    return _make_model


@pytest.fixture
def model():
    return _make_model()


@pytest.fixture
def image():
    """(2, 1, 32, 48) in network units."""
    return torch.randn(2, 1, 32, 48, generator=torch.Generator().manual_seed(1))
