"""The `ltdiff models` commands: what is registered, and which of it is the champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def list_models(*, tracking_uri: str | None = None) -> int:
    """List the registered versions with score, data and code, the newest first.

    Args:
        tracking_uri: MLflow server or SQLite file; without it MLFLOW_TRACKING_URI.
    """
    from ltdiff.registry.describe import list_text

    print(list_text(tracking_uri))
    return 0


def show(model: str, *, tracking_uri: str | None = None) -> int:
    """Show all that is known of a version: score, data, code, parts, promotions, figures and settings of its run.

    Args:
        model: Number of the version, or an alias: candidate, champion.
        tracking_uri: MLflow server or SQLite file; without it MLFLOW_TRACKING_URI.
    """
    from ltdiff.registry.describe import show_text

    print(show_text(model, tracking_uri=tracking_uri))
    return 0


def promote(model: str, *, pairs: Path | None = None, force: bool = False, tracking_uri: str | None = None) -> int:
    """Make a version the champion, unless it is worse than the present one on the same validation pairs.

    Args:
        model: Number of the version, or an alias: candidate.
        pairs: Manifest on whose validation pairs both are scored; without it the figures of their calibrations are compared,
            where these are of the same pairs.
        force: Also where it is worse, or cannot be compared; the version keeps a record of it.
        tracking_uri: MLflow server or SQLite file; without it MLFLOW_TRACKING_URI.
    """
    from ltdiff.registry.promotion import promote as promote_model

    print(promote_model(model, pairs=pairs, force=force, tracking_uri=tracking_uri))
    return 0


def export(model: str, *, out: Path, tracking_uri: str | None = None) -> int:
    """Copy a version, verified, into a model folder that needs no registry.

    Args:
        model: Number of the version, or an alias: candidate, champion.
        out: Folder for it; must not hold anything yet.
        tracking_uri: MLflow server or SQLite file; without it MLFLOW_TRACKING_URI.
    """
    from ltdiff.registry.describe import export as export_model

    version = export_model(model, out=out, tracking_uri=tracking_uri)
    print(f"{out}: version {version.number}; `ltdiff standardize --model {out}` needs no registry")
    return 0


COMMANDS: dict[str, str | Callable[..., int]] = {
    "_help": "List, show, promote and export registered models.",
    "list": list_models,
    "show": show,
    "promote": promote,
    "export": export,
}
