"""Training and standardizing on a real GPU."""

import numpy as np
import pytest
import torch
from tiny_run import make_volumes, tiny_settings

from ltdiff.inference.standardizer import Standardizer
from ltdiff.training.ray_driver import train_on_ray

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_a_model_trained_on_a_gpu_standardizes_there_as_on_the_cpu(tmp_path, manifest_path):
    settings = tiny_settings(use_gpu=True, precision="bf16")
    phases = ["autoencoder", "ddpm", "joint"]
    model = train_on_ray(phases, manifest_path=manifest_path, out=tmp_path / "run", settings=settings)
    standardizer = Standardizer.load(model)
    assert standardizer.device.type == "cuda"
    hu = make_volumes()[0].astype(np.float32)
    on_gpu = standardizer.standardize(hu, (0.8, 0.7))
    standardizer.device = torch.device("cpu")
    standardizer.model.cpu()
    assert np.abs(on_gpu - standardizer.standardize(hu, (0.8, 0.7))).mean() < 3
