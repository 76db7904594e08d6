"""`ltdiff models list` and `show`: the registered versions as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ltdiff.registry.versions import ModelVersion, find_model, list_models, read_run
from ltdiff.uncertainty.validation_ccc import overall

SHORT = 10
"""Digits of a fingerprint or a revision in a table."""


def list_text(tracking_uri: str | None = None) -> str:
    """A Markdown table with a row for each version, the newest first; ValueError where the registry cannot be read."""
    models = list_models(tracking_uri)
    if not models:
        return "no model is registered"
    classes = sorted({name for model in models for name in model.validation_ccc})
    rows = [_row(model, classes) for model in models]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def show_text(reference: str, *, tracking_uri: str | None = None) -> str:
    """All that is known of a version: score, data, code, parts, promotions, figures and settings of its run.

    Raises:
        ValueError: no such version or alias, or the registry cannot be read.
    """
    model = find_model(reference, list_models(tracking_uri))
    settings, metrics = read_run(model, tracking_uri)
    ccc = model.validation_ccc
    facts = {
        "version": str(model.number),
        "aliases": ", ".join(model.aliases),
        "kernels": str(model.kernels or "unknown"),
        "registered": f"{model.registered:%Y-%m-%d %H:%M} UTC",
        "run": f"{model.run_name} ({model.run_id})",
        "validation": f"CCC {ccc_text(ccc)} of the {model.output}, pairs {model.validated_on}" if ccc else "not calibrated",
        "data": model.data_fingerprint,
        "code": f"ltdiff {model.code_version} {model.git_revision}".strip(),
        "parts": ", ".join(f"{name} {number}" for name, number in model.parts.items()),
        "sha256": model.sha256,
    }
    facts |= {f"promoted {time}": _promotion_text(record) for time, record in model.promotions.items()}
    figures = {name: f"{value:.6g}" for name, value in sorted(metrics.items())}
    return f"{_lines(facts)}\n\nmetrics\n{_lines(figures)}\n\nsettings\n{_lines(dict(sorted(settings.items())))}"


def ccc_text(ccc: Mapping[str, float]) -> str:
    """0.9812 (firstorder 0.9990, glcm 0.9744)."""
    classes = ", ".join(f"{name} {value:.4f}" for name, value in sorted(ccc.items()))
    return f"{overall(ccc):.4f} ({classes})"


def _row(model: ModelVersion, classes: Sequence[str]) -> dict[str, str]:
    ccc = model.validation_ccc
    digits, dash, dirty = model.git_revision.partition("-")  # the revision, and whether files were changed
    return {
        "version": str(model.number),
        "aliases": ", ".join(model.aliases),
        "kernels": str(model.kernels or "").replace("|", "\\|"),
        "registered (UTC)": f"{model.registered:%Y-%m-%d %H:%M}",
        "CCC": f"{overall(ccc):.4f}" if ccc else "",
        **{name: f"{ccc[name]:.4f}" if name in ccc else "" for name in classes},
        "data": model.data_fingerprint[:SHORT],
        "code": digits[:SHORT] + dash + dirty,
        "run": model.run_name,
    }


def _promotion_text(record: Mapping[str, Any]) -> str:
    if record["replaced"] is None:
        return "there was no champion"
    text = f"in place of version {record['replaced']}"
    if record.get("rolled_back"):
        return f"{text}, which was rolled back"
    if "basis" in record:
        text += f"; CCC {ccc_text(record['ccc'])} against {ccc_text(record['champion_ccc'])}, {record['basis']}"
    else:
        text += "; without a comparison"
    return text + ("; forced" if record["forced"] else "")


def _lines(values: Mapping[str, str]) -> str:
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:{width}}  {value}".rstrip() for name, value in values.items())
