"""Write an evaluation for people (report.md, PNG) and for programs (CSV, Parquet, JSON).

Every file is written beside its place and moved there when complete, so a reader never meets half of one.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ltdiff.data import rois
from ltdiff.data.rois import Roi, VolumeRoi, bounding_box
from ltdiff.evaluation import figures
from ltdiff.evaluation.evaluation_result import EvaluationResult
from ltdiff.evaluation.markdown import to_markdown
from ltdiff.system.atomic_files import replace_file, write_text

SUMMARY_FILE = "summary.json"
OPTIONAL_TABLES = ("remaining_error", "group_ccc")
"""Tables that only some reports have."""


def add_to_summary(out_dir: Path, facts: Mapping[str, Any]) -> None:
    """Merge facts that are known only when all is done into the summary.json of a report."""
    path = out_dir / SUMMARY_FILE
    write_text(path, _to_json(json.loads(path.read_text()) | dict(facts)))


def write_report(result: EvaluationResult, *, out_dir: Path) -> Path:
    """Write everything under `out_dir` and return the path of report.md; what an earlier report had beside it goes."""
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, table in result.tables.items():
        path = out_dir / f"{name}.csv"
        if name in OPTIONAL_TABLES and table.empty:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, partial(table.to_csv, index=False))
    features = result.scores.features
    replace_file(out_dir / "features.parquet", partial(features.to_table().to_parquet, index=False))
    write_text(out_dir / "rois.json", _to_json(_describe_rois(features.rois)))
    write_text(out_dir / SUMMARY_FILE, _to_json(result.facts))
    _draw_figures(result, out_dir)
    write_text(out_dir / "report.md", to_markdown(result))
    return out_dir / "report.md"


def _draw_figures(result: EvaluationResult, out_dir: Path) -> None:
    power = result.tables["noise_power"]
    drawn = {
        "slices": figures.draw_slices(result.planes_hu, target_hu=result.target_hu, roi=result.shown),
        "ccc": figures.draw_ccc(result.scores.ccc),
        "noise_power": figures.draw_noise_power(power) if len(power) else None,
    }
    for name, figure in drawn.items():
        path = out_dir / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, partial(figure.savefig, format="png", dpi=100, pil_kwargs={"optimize": True}))


def _describe_rois(found: tuple[Roi | VolumeRoi, ...]) -> dict[str, Any]:
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
        "rois": [_describe_roi(roi) for roi in found],
    }


def _describe_roi(roi: Roi | VolumeRoi) -> dict[str, Any]:
    rows, columns = bounding_box(np.any(roi.volume_mask, axis=0))
    return {
        "roi_set": roi.roi_set,
        "slice_index": roi.slice_index,
        "num_slices": len(roi.volume_mask),
        "label": roi.label,
        "num_pixels": int(roi.volume_mask.sum()),
        "rows": [rows.start, rows.stop],
        "columns": [columns.start, columns.stop],
    }


def _to_json(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=2, ensure_ascii=False, default=lambda v: v.item() if isinstance(v, np.generic) else str(v))
    return text + "\n"
