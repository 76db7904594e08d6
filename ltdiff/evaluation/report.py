"""Write an evaluation for people (report.md, PNG) and for programs (CSV, Parquet, JSON).

Every file is written beside its place and moved there when complete, so a reader never meets half of one.
"""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltdiff.data import rois
from ltdiff.data.rois import RoiSummary
from ltdiff.evaluation import figures
from ltdiff.evaluation.evaluation_result import EvaluationResult
from ltdiff.evaluation.markdown import Section, paired_sections, to_markdown
from ltdiff.evaluation.reporting import REPORTING_FILE, reporting_markdown
from ltdiff.evaluation.unpaired_markdown import unpaired_sections
from ltdiff.evaluation.unpaired_result import UnpairedResult
from ltdiff.system.atomic_files import replace_file, write_text

REPORT_FILE, SUMMARY_FILE = "report.md", "summary.json"
OPTIONAL_TABLES = (
    *("remaining_error", "group_ccc", "endpoints", "endpoint_agreement", "noise_floor", "repeatability"),
    *("unpaired_structures", "unpaired_curves", "unpaired_endpoints", "unpaired_endpoint_groups"),
)
"""Tables that only some reports have."""
OF_PAIRS = (
    *("ccc", "feature_ccc", "relative_error", "image_metrics", "noise_power", "slice_correlation", "structures"),
    *("structure_summary", "content", "slices", "remaining_error", "group_ccc", "features", "rois"),
    *("endpoints", "endpoint_agreement", "noise_floor", "repeatability", "robust_features", "reporting"),
)
WITHOUT_PAIRS = (
    *("unpaired", "unpaired_structures", "unpaired_curves", "unpaired_slices", "unpaired_features"),
    *("unpaired_endpoints", "unpaired_endpoint_groups"),
)
"""Names of the files of the two parts of a report, whatever their endings."""
ADDED_LATER = ("risk_scores", "risk_agreement")
"""Tables of `add_section`."""

SHAREABLE = (
    *("ccc", "feature_ccc", "relative_error", "image_metrics", "noise_power", "slice_correlation", "structure_summary"),
    *("content", "remaining_error", "group_ccc", "endpoint_agreement", "noise_floor", "repeatability", "robust_features"),
    *("reporting", "unpaired", "unpaired_curves", "risk_agreement"),
)
"""Names of the files that are of all scans together: no image of a scan, and no row for a scan, a slice or a region."""


def copy_shareable(out_dir: Path, target: Path) -> None:
    """Copy of a report what tells of no single scan into the folder `target`; report.md without the pictures of slices."""
    for path in sorted(out_dir.iterdir()):
        if path.stem in SHAREABLE and path.suffix in (".csv", ".png", ".md"):
            shutil.copyfile(path, target / path.name)
    lines = (out_dir / REPORT_FILE).read_text().splitlines(keepends=True)
    (target / REPORT_FILE).write_text("".join(line for line in lines if not line.startswith("![") or "slices.png" not in line))


def add_to_summary(out_dir: Path, facts: Mapping[str, Any]) -> None:
    """Merge facts that are known only when all is done into the summary.json of a report."""
    path = out_dir / SUMMARY_FILE
    write_text(path, _to_json(json.loads(path.read_text()) | dict(facts)))


def add_section(out_dir: Path, section: Section, tables: Mapping[str, pd.DataFrame]) -> None:
    """Add what is measured after the report was written: a section at its end, and tables beside it."""
    _write_tables(tables, out_dir)
    path = out_dir / REPORT_FILE
    write_text(path, f"{path.read_text()}\n{section.to_markdown()}\n")


def write_report(result: EvaluationResult | None, unpaired: UnpairedResult | None = None, *, out_dir: Path) -> Path:
    """Write what was measured on pairs and without pairs under `out_dir`, and return the path of report.md.

    What an earlier report had beside it goes.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in ADDED_LATER:
        (out_dir / f"{name}.csv").unlink(missing_ok=True)
    sections: list[Section] = []
    facts: dict[str, Any] = {}
    for of_part, names in ((result, OF_PAIRS), (unpaired, WITHOUT_PAIRS)):
        for name in names if of_part is None else ():
            for path in out_dir.glob(f"{name}.*"):
                path.unlink()
        if of_part is not None:
            _write_tables(of_part.tables, out_dir)
            facts = {**of_part.facts, **facts}
    if result is not None:
        features = result.scores.features
        _write_table(features.to_table(), out_dir / "features.parquet")
        write_text(out_dir / "rois.json", _to_json(_describe_rois(features.rois)))
        write_text(out_dir / REPORTING_FILE, reporting_markdown(result))
        sections += paired_sections(result)
    if unpaired is not None:
        _write_table(unpaired.features, out_dir / "unpaired_features.parquet")
        sections += unpaired_sections(unpaired)
    write_text(out_dir / SUMMARY_FILE, _to_json(facts))
    _draw_figures(result, unpaired, out_dir)
    write_text(out_dir / REPORT_FILE, to_markdown(sections))
    return out_dir / REPORT_FILE


def _write_tables(tables: Mapping[str, pd.DataFrame], out_dir: Path) -> None:
    for name, table in tables.items():
        path = out_dir / f"{name}.csv"
        if name in OPTIONAL_TABLES and table.empty:
            path.unlink(missing_ok=True)
        else:
            _write_table(table, path)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    write = table.to_parquet if path.suffix == ".parquet" else table.to_csv
    replace_file(path, partial(write, index=False))


def _draw_figures(result: EvaluationResult | None, unpaired: UnpairedResult | None, out_dir: Path) -> None:
    drawn: dict[str, Any] = {}
    if result is not None:
        power = result.tables["noise_power"]
        drawn["slices"] = figures.draw_slices(result.planes_hu, target_hu=result.target_hu, roi=result.shown)
        drawn["ccc"] = figures.draw_ccc(result.scores.ccc)
        drawn["noise_power"] = figures.draw_noise_power(power) if len(power) else None
    if unpaired is not None:
        curves, slices_hu = unpaired.tables["unpaired_curves"], unpaired.planes_hu
        drawn["unpaired"] = figures.draw_protocols(curves) if len(curves) else None
        drawn["unpaired_slices"] = figures.draw_slices(
            slices_hu, target_hu=unpaired.target_hu, roi=unpaired.shown, is_paired=False
        )
    for name, figure in drawn.items():
        path = out_dir / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, partial(figure.savefig, format="png", dpi=100))


def _describe_rois(found: tuple[RoiSummary, ...]) -> dict[str, Any]:
    """How regions are drawn, and every region; a disc is rebuilt from its label by `rois.disc_mask`, in each of its slices."""
    return {
        "recipe": {
            "radius_px": rois.RADIUS_RANGE_PX,
            "border_px": rois.BORDER_PX,
            "border_fraction_of_small_images": rois.BORDER_FRACTION,
            "lowest_mean_hu": rois.LOWEST_MEAN_HU,
            "hu_ranges": rois.HU_RANGES,
            "lesion_min_pixels": rois.MIN_LESION_PIXELS,
        },
        "rois": [region._asdict() for region in found],
    }


def _to_json(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=2, ensure_ascii=False, default=lambda v: v.item() if isinstance(v, np.generic) else str(v))
    return text + "\n"
