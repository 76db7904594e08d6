"""Write the tables of an evaluation for people (report.md, PNG) and for programs (CSV, Parquet, JSON).

Every file is written beside its place and moved there when complete, so a reader never meets half of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ltdiff.data.rois import Roi
from ltdiff.evaluation import figures
from ltdiff.evaluation.error_ratio import remaining_error_ratios
from ltdiff.evaluation.markdown import to_markdown
from ltdiff.evaluation.noise_power import largest_differences, noise_power
from ltdiff.evaluation.paper import group_ccc
from ltdiff.evaluation.provenance import describe_rois, describe_scoring, is_lesion
from ltdiff.evaluation.scoring import Scores
from ltdiff.evaluation.slice_correlation import Neighbours, slice_correlation
from ltdiff.evaluation.structure_fidelity import (
    count_changed_places,
    describe_lesions,
    structure_summary,
    structure_table,
)
from ltdiff.evaluation.structures import find_structures
from ltdiff.system.atomic_files import replace_file, write_text

SUMMARY_FILE = "summary.json"


def add_to_summary(out_dir: Path, facts: Mapping[str, Any]) -> None:
    """Merge facts that are known only when all is done into the summary.json of a report."""
    path = out_dir / SUMMARY_FILE
    write_text(path, _to_json(json.loads(path.read_text()) | dict(facts)))


def write_report(
    scores: Scores,
    *,
    out_dir: Path,
    images: Mapping[str, np.ndarray],
    target_hu: np.ndarray,
    spacing_mm: Sequence[float] | np.ndarray,
    rois: Sequence[Roi],
    neighbours: Neighbours | None = None,
    num_cross_sections: int | None = None,
    summary: Mapping[str, Any] | None = None,
    compared: str | None = None,
) -> Path:
    """Write everything under `out_dir` and return the path of report.md.

    `images` and `target_hu` (Z, Y, X) are those that were scored, with PixelSpacing (y, x), one for all slices or a row for
    each; one slice of them is drawn, with the largest of `rois`, the regions of single slices; and their noise power,
    structures and neighbouring slices are compared. `neighbours` are pairs of slices that follow each other in one series;
    without it, all slices do. `num_cross_sections` counts those of the lesion masks, however small; None: there is no mask.
    `summary` (times, memory, versions, seeds, split, data fingerprint) is merged over what the scoring knows of itself and
    becomes summary.json. It must not hold anything that tells who a patient is. With `compared`, the remaining error of that
    method is set against the others' (remaining_error.csv).
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in ("ccc", "feature_ccc", "relative_error", "image_metrics"):
        _write_csv(out_dir, name, getattr(scores, name))
    _write_or_remove(out_dir, "group_ccc", group_ccc(scores.feature_ccc))
    replace_file(out_dir / "features.parquet", partial(scores.features.to_parquet, index=False))
    write_text(out_dir / "rois.json", _to_json(describe_rois(scores.rois)))
    write_text(out_dir / SUMMARY_FILE, _to_json({**describe_scoring(scores), **(summary or {})}))
    ratios = remaining_error_ratios(scores.features, method=compared, seed=scores.seed) if compared else None
    _write_or_remove(out_dir, "remaining_error", ratios)
    neighbours = list(pairwise(range(len(target_hu)))) if neighbours is None else neighbours
    spacings_mm = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (len(target_hu), 2))
    compared_images = _compare_images(
        images, target_hu=target_hu, spacings_mm=spacings_mm, rois=rois, neighbours=neighbours
    )
    for name, table in compared_images._asdict().items():
        _write_csv(out_dir, name, table)
    power = compared_images.noise_power
    _draw_figures(scores, out_dir=out_dir, images=images, target_hu=target_hu, rois=rois, power=power)
    report = _to_report(scores, compared_images, rois=rois, ratios=ratios, num_cross_sections=num_cross_sections)
    write_text(out_dir / "report.md", report)
    return out_dir / "report.md"


class _ImageTables(NamedTuple):
    """What is compared beside features, a table each; the names are those of the files."""

    noise_power: pd.DataFrame
    slice_correlation: pd.DataFrame
    structures: pd.DataFrame
    structure_summary: pd.DataFrame
    content: pd.DataFrame  # one row per method: whole images in short


def _to_report(
    scores: Scores,
    tables: _ImageTables,
    *,
    rois: Sequence[Roi],
    ratios: pd.DataFrame | None,
    num_cross_sections: int | None,
) -> str:
    lesion_rois = [roi for roi in rois if is_lesion(roi)]
    found = tables.structures[tables.structures["roi_set"].isin({roi.roi_set for roi in lesion_rois})]
    lesions = ""
    if lesion_rois or num_cross_sections is not None:
        lesions = describe_lesions(found, num_rois=len(lesion_rois), num_cross_sections=num_cross_sections or 0)
    return to_markdown(
        scores,
        ratios=ratios,
        content=tables.content,
        structures=tables.structure_summary,
        correlation=tables.slice_correlation,
        has_power=len(tables.noise_power) > 0,
        lesions=lesions,
    )


def _compare_images(
    images: Mapping[str, np.ndarray],
    *,
    target_hu: np.ndarray,
    spacings_mm: np.ndarray,
    rois: Sequence[Roi],
    neighbours: Neighbours,
) -> _ImageTables:
    power = noise_power(images, target_hu=target_hu, spacings_mm=spacings_mm)
    correlation = slice_correlation(images, target_hu=target_hu, neighbours=neighbours)
    lesion_rois = [roi for roi in rois if is_lesion(roi)]
    structure_rois = [*lesion_rois, *find_structures(target_hu, spacings_mm=spacings_mm, lesions=lesion_rois)]
    structures = structure_table(images, target_hu=target_hu, rois=structure_rois, neighbours=neighbours)
    content = count_changed_places(images, target_hu=target_hu, spacings_mm=spacings_mm)
    if len(power):
        content = content.merge(largest_differences(power), on="method")
    if len(correlation):
        shown = correlation[["method", "relative_difference"]]
        content = content.merge(
            shown.rename(columns={"relative_difference": "slice_correlation_difference"}), on="method"
        )
    return _ImageTables(power, correlation, structures, structure_summary(structures), content)


def _write_csv(out_dir: Path, name: str, table: pd.DataFrame) -> None:
    replace_file(out_dir / f"{name}.csv", partial(table.to_csv, index=False))


def _write_or_remove(out_dir: Path, name: str, table: pd.DataFrame | None) -> None:
    """A table that only some reports have; that of an earlier report in the folder goes."""
    if table is None or table.empty:
        (out_dir / f"{name}.csv").unlink(missing_ok=True)
    else:
        _write_csv(out_dir, name, table)


def _draw_figures(
    scores: Scores,
    *,
    out_dir: Path,
    images: Mapping[str, np.ndarray],
    target_hu: np.ndarray,
    rois: Sequence[Roi],
    power: pd.DataFrame,
) -> None:
    # a lesion if there is one, and the largest: the region that a reader wants to see
    roi = max(rois, key=lambda roi: (is_lesion(roi), roi.mask.sum()))
    planes = {method: volume[roi.slice_index] for method, volume in images.items()}
    slices = figures.draw_slices(planes, target_hu=target_hu[roi.slice_index], roi=roi)
    drawn = {"slices.png": slices, "ccc.png": figures.draw_ccc(scores.ccc)}
    (out_dir / "noise_power.png").unlink(missing_ok=True)  # of an earlier report
    if len(power):
        drawn["noise_power.png"] = figures.draw_noise_power(power)
    for name, figure in drawn.items():
        save = partial(figure.savefig, format="png", dpi=100, pil_kwargs={"optimize": True})
        replace_file(out_dir / name, save)


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
