"""The argument --model: a folder, or the URI of a registered model."""

from pathlib import Path

MODEL_CACHE = Path.home() / ".cache" / "ltdiff"
"""Folder of downloaded models."""


def is_registered(model: str) -> bool:
    """Tell a models:/ URI from a folder."""
    return model.startswith("models:/")


def resolve_model(model: str) -> Path:
    """Return the folder of a model; a registered one is downloaded and verified."""
    if not is_registered(model):
        return Path(model)
    from ltdiff.registry.versions import download

    return download(model, out_dir=MODEL_CACHE)
