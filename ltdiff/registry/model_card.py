"""The card of a model: what it is for, how good it was, what trained it, for people; README.md of a ready model."""

from pathlib import Path

from ltdiff.inference.models import MODEL_NAME, read_training_domain
from ltdiff.model.model_folder import description_errors, read_description, weights_sha256
from ltdiff.registry.describe import ccc_text
from ltdiff.registry.register import read_validation

CARD_FILE = "README.md"


def card_text(folder: Path, *, notes: str = "") -> str:
    """Markdown on the model in `folder`, made of its description and calibration, and ended by `notes`, also in Markdown.

    Raises:
        ValueError: no model there, or a damaged one.
    """
    about, domain, validation = read_description(folder)["about"], read_training_domain(folder), read_validation(folder)
    with description_errors(folder):
        facts = {
            "source kernels": ", ".join(domain.source_kernels),
            "target kernel": ", ".join(domain.target_kernels),
            "manufacturers": ", ".join(domain.manufacturers),
            "pixel spacing": _range(domain.spacing_mm, "mm"),
            "slice thickness": _range(domain.slice_thickness_mm, "mm"),
            "noise of the source": _range(domain.noise_hu, "HU"),
            "concordance (CCC) on validation pairs": (
                f"{ccc_text(validation['ccc'])}, of the {validation['output']}" if validation else "not calibrated"
            ),
            "trained on": f"{len(about.get('trained_series', []))} series",
            "fingerprint of the pairs": str(about.get("data_fingerprint", "")),
            "ltdiff": str(about["version"]),
            "sha256 of the weights": weights_sha256(folder),
        }
    rows = "".join(f"| {name} | {_cell(value)} |\n" for name, value in facts.items())
    title = f"{MODEL_NAME}: {_cell(facts['source kernels'])} to {_cell(facts['target kernel'])}"
    text = (
        f"# {title}\n\n**Not for diagnostic use.** Makes CT images of the source kernels comparable with those of the target "
        "kernel. A series of another kernel or manufacturer, or far outside these ranges, is refused.\n\n"
        f"| | |\n|---|---|\n{rows}\n"
        "    ltdiff models install FILE_OR_FOLDER --into MODELS\n"
        f"    ltdiff standardize ARCHIVE --model MODELS --out DERIVED\n"
    )
    return f"{text}\n{notes.strip()}\n" if notes else text


def _range(ends: tuple[float, float] | None, unit: str) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g} {unit}" if ends else ""


def _cell(value: str) -> str:
    """A value of a header as it may stand in a table: printable, on one line, without the table's own sign."""
    text = value if value.isprintable() else ascii(value)
    return (text or "unknown").replace("|", "\\|")
