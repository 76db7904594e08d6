"""Finished runs in a registry: small models with a calibration that says what a test needs."""

import json
from pathlib import Path

import torch
from tiny_run import tiny_settings

from ltdiff.data.training_domain import TrainingDomain
from ltdiff.model.ltdiff import LTDiff, save_model
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.training.finish_run import record_run

NAMES = ("ltdiff-encoder", "ltdiff-ddpm", "ltdiff-decoder", "ltdiff")
PAIRS = "a" * 64
"""Fingerprint of a manifest."""


def record(
    run: Path,
    *,
    glcm: float | None = None,
    pairs: str = PAIRS,
    seed: int = 0,
    kernel_match: KernelMatch | None = None,
    kernels: tuple[str, str] | None = None,
) -> Path:
    """Record a finished run; its model is calibrated where it has a CCC, `glcm`, and may know its source and target kernel.

    Returns the model's folder.
    """
    torch.manual_seed(seed)
    settings = tiny_settings()
    model = LTDiff(settings.model)
    model.kernel_match = kernel_match or model.kernel_match
    described = {"model": {}, "diffusion": {"schedule": {}}, "loss": {"decode": "residual"}}
    domain = TrainingDomain(*((name,) for name in kernels or ()))
    trained = {"joint": {"step": 4}} if kernels else {}
    about = {"version": "0.0.1", "settings": described, "training_domain": domain.to_dict(), "trained": trained}
    save_model(model, run / "model", about=about)
    if glcm is not None:
        ccc = {"mean": {"firstorder": 0.99, "glcm": glcm}, "sample": {"firstorder": 0.5, "glcm": 0.5}}
        content = {"output": "mean", "validation_ccc": ccc, "data_fingerprint": pairs}
        (run / "model" / "calibration.json").write_text(json.dumps(content))
    (run / "run.json").write_text(json.dumps({"data_fingerprint": pairs, "settings": {"diffusion": {"kappa": 0.1}}}))
    (run / "joint").mkdir()
    (run / "joint" / "metrics.jsonl").write_text('{"step": 4, "loss": 0.25}\n')
    record_run(run)
    return run / "model"


def versions_of(client, alias: str) -> dict[str, int]:
    """Of every name the version that has the alias."""
    return {name: int(client.get_model_version_by_alias(name, alias).version) for name in NAMES}
