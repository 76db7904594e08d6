"""What the tests of inference share: a small model that changes images, and small CT series."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from ltdiff.data.training_domain import TrainingDomain
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import SeriesIdentity, write_ct_series
from ltdiff.model.config import AutoencoderConfig, DenoiserConfig, ModelConfig
from ltdiff.model.ltdiff import LTDiff, save_model
from ltdiff.training.config import LossConfig, Settings

CANARY = "Canary"
ModelFactory = Callable[..., Path]
SeriesFactory = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model() -> ModelFactory:
    """make_model(folder, source_kernels=…, seed=…, …): a small model with random weights, described as training does.

    `facts` go to its TrainingDomain: those that are not given are unknown.
    """

    def make(
        folder: Path,
        *,
        source_kernels: tuple[str, ...] = ("B",),
        target_kernels: tuple[str, ...] = ("L",),
        seed: int = 0,
        trained: bool = True,
        **facts,
    ) -> Path:
        config = ModelConfig(
            autoencoder=AutoencoderConfig(channels=(8, 8), latent_channels=(2, 2), image_latent=False),
            denoiser=DenoiserConfig(channels=(8, 8), num_blocks=1, embedding_size=8),
        )
        settings = Settings(model=config, loss=LossConfig(supervision_weights=(1.0,), decode="residual"))
        torch.manual_seed(seed)
        model = LTDiff(config)
        for parameter in model.denoiser.parameters():  # its output layers start at zero: noise would not show
            torch.nn.init.normal_(parameter, std=0.1)
        model.kernel_match.gains *= torch.linspace(1, 1.5, len(model.kernel_match.gains))
        about = {
            "version": "0.0.1",
            "settings": json.loads(json.dumps(asdict(settings))),
            "training_domain": TrainingDomain(source_kernels, target_kernels, **facts).to_dict(),
            "trained": {"joint": {"loss": 0.5}} if trained else {},
        }
        save_model(model, folder, about=about)
        return folder

    return make


@pytest.fixture(scope="session")
def model(tmp_path_factory, make_model) -> Path:
    """A model that was trained to turn kernel B into L."""
    return make_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def make_series() -> SeriesFactory:
    """make_series(folder, kernel=…, num_slices=…): writes a CT series of a patient called CANARY."""

    def make(
        folder: Path, *, kernel: str = "B", num_slices: int = 3, size: tuple[int, int] = (40, 36), manufacturer: str = "ltdiff"
    ) -> Path:
        rng = np.random.default_rng(len(folder.name))
        hu = np.full((num_slices, *size), -1000.0) + rng.normal(0, 20, (num_slices, *size))
        hu[:, 8:-8, 6:-6] += 1040
        identity = SeriesIdentity(
            patient_id=CANARY,
            study_uid=stable_uid("study", folder.name),
            frame_of_reference_uid=stable_uid("frame", folder.name),
            series_uid=stable_uid("series", folder.name),
            series_number=2,
            kernel=kernel,
            slice_thickness_mm=2.0,
            acquired=datetime(1987, 6, 5, 4, 3),
            manufacturer=manufacturer,
        )
        return write_ct_series(hu, out_dir=folder, identity=identity, spacing_mm=(2.0, 0.8, 0.7))

    return make
