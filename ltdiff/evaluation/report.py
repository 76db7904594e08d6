"""Write the tables of an evaluation for people (report.md, PNG) and for programs (CSV, Parquet, JSON).

Every file is written beside its place and moved there when complete, so a reader never meets half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ltdiff
from ltdiff.data import rois as recipe
from ltdiff.data.rois import Roi, bounding_box
from ltdiff.evaluation import concordance, figures
from ltdiff.evaluation.content import (
    CHANGED_DIAMETER_MM,
    CHANGED_HU,
    count_changed_places,
    describe_lesions,
    lesion_summary,
    lesion_table,
)
from ltdiff.evaluation.image_metrics import DATA_RANGE_HU
from ltdiff.evaluation.noise_power import largest_differences, noise_power
from ltdiff.evaluation.remaining_error import remaining_error_ratios
from ltdiff.evaluation.scoring import RELATIVE_ERROR_EPSILON, REPRODUCIBLE_CCC, Scores, reproducible_shares
from ltdiff.evaluation.slice_correlation import Neighbours, describe_correlation, slice_correlation
from ltdiff.radiomics import extraction

FEW_ROIS = 20
_CCC_DEFINITIONS = {
    "across_rois": "Primary definition, `across_rois`: one CCC per feature over the regions, mean ± sd over the "
    "features of the class",
    "across_features": "Second definition, `across_features`: one CCC per region over the features of the class, "
    "mean ± sd over the regions. Not comparable with the first",
}


def write_report(
    scores: Scores,
    *,
    out_dir: Path,
    images: Mapping[str, np.ndarray],
    target_hu: np.ndarray,
    spacing_mm: tuple[float, float],
    neighbours: Neighbours | None = None,
    num_cross_sections: int = 0,
    summary: Mapping[str, Any] | None = None,
    compared: str | None = None,
) -> Path:
    """Write everything under `out_dir` and return the path of report.md.

    `images` and `target_hu` (Z, Y, X) are those that were scored, with PixelSpacing (y, x); one slice of them is drawn, and
    their noise power, lesions and neighbouring slices are compared. `neighbours` are pairs of slices that follow each other in
    one series; without it, all slices do. `num_cross_sections` counts those of the lesion masks, however small. `summary` (times,
    memory, versions, seeds, split, data fingerprint) is merged over what the scoring knows of itself and becomes
    summary.json. It must not hold anything that tells who a patient is. With `compared`, the remaining error of that method
    is set against the others' (remaining_error.csv).
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in ("ccc", "feature_ccc", "relative_error", "image_metrics"):
        table: pd.DataFrame = getattr(scores, name)
        replace_file(out_dir / f"{name}.csv", partial(table.to_csv, index=False))
    replace_file(out_dir / "features.parquet", partial(scores.features.to_parquet, index=False))
    write_text(out_dir / "rois.json", _to_json(describe_rois(scores.rois)))
    write_text(out_dir / "summary.json", _to_json({**describe_scoring(scores), **(summary or {})}))
    ratios = remaining_error_ratios(scores.features, method=compared, seed=scores.seed) if compared else None
    if ratios is not None:
        replace_file(out_dir / "remaining_error.csv", partial(ratios.to_csv, index=False))
    power = noise_power(images, target_hu=target_hu, spacing_mm=spacing_mm)
    replace_file(out_dir / "noise_power.csv", partial(power.to_csv, index=False))
    neighbours = list(pairwise(range(len(target_hu)))) if neighbours is None else neighbours
    correlation = slice_correlation(images, target_hu=target_hu, neighbours=neighbours)
    replace_file(out_dir / "slice_correlation.csv", partial(correlation.to_csv, index=False))
    lesion_rois = [roi for roi in scores.rois if _is_lesion(roi)]
    found = lesion_table(images, target_hu=target_hu, rois=lesion_rois, neighbours=neighbours)
    replace_file(out_dir / "lesions.csv", partial(found.to_csv, index=False))
    content = count_changed_places(images, target_hu=target_hu, spacing_mm=spacing_mm)
    if len(found):
        content = content.merge(lesion_summary(found), on="method")
    if len(power):
        content = content.merge(largest_differences(power), on="method")
    if len(correlation):
        shown = correlation[["method", "relative_difference"]]
        content = content.merge(
            shown.rename(columns={"relative_difference": "slice_correlation_difference"}), on="method"
        )
    replace_file(out_dir / "content.csv", partial(content.to_csv, index=False))
    _draw_figures(scores, out_dir=out_dir, images=images, target_hu=target_hu, power=power)
    lesions = describe_lesions(found, num_rois=len(lesion_rois), num_cross_sections=num_cross_sections)
    report = to_markdown(
        scores, ratios=ratios, content=content, correlation=correlation, has_power=len(power) > 0, lesions=lesions
    )
    write_text(out_dir / "report.md", report)
    return out_dir / "report.md"


def to_markdown(
    scores: Scores,
    *,
    ratios: pd.DataFrame | None = None,
    content: pd.DataFrame | None = None,
    correlation: pd.DataFrame | None = None,
    has_power: bool = False,
    lesions: str = "",
) -> str:
    """The report as Markdown; its pictures are ccc.png, slices.png and noise_power.png beside it.

    `lesions` is what is to be said of the lesions' regions.
    """
    parts = ["# Evaluation", "Not for diagnostic use."]
    for definition, meaning in _CCC_DEFINITIONS.items():
        parts += [f"## Concordance correlation coefficient, {definition.replace('_', ' ')}", f"{meaning}."]
        for roi_set, table in scores.ccc[scores.ccc["definition"] == definition].groupby("roi_set", sort=False):
            note = f"{_regions_note(table)} {lesions}" if _is_lesion_set(str(roi_set)) else _regions_note(table)
            parts += [f"### {roi_set}", note.strip(), ccc_markdown(table)]
    parts += ["![CCC of every class with its confidence interval](ccc.png)"]
    if ratios is not None and len(ratios):
        parts += ["## Remaining error", _ratios_note(ratios), _ratios_markdown(ratios)]
    parts += ["## Images", "Mean over all pixels of all scored slices.", _image_metrics_markdown(scores.image_metrics)]
    parts += ["![One slice of every method, its difference to the target, a region enlarged](slices.png)"]
    if content is not None:
        about_slices = "" if correlation is None else describe_correlation(correlation)
        parts += [
            "## Noise and content",
            f"{_content_note()} {about_slices}".strip(),
            content.to_markdown(index=False, floatfmt=".3g"),
        ]
    if has_power:
        parts += ["![Noise power spectrum of every method in soft tissue](noise_power.png)"]
    parts += ["## Relative error", _relative_error_note(), _relative_error_markdown(scores.relative_error)]
    parts += ["## Reproducible features", _shares_note()]
    parts += [_shares_markdown(reproducible_shares(scores.feature_ccc))]
    parts += ["## How it was measured", _method_note(scores)]
    return "\n\n".join(parts) + "\n"


def ccc_markdown(table: pd.DataFrame) -> str:
    """One row per method, one column per class, "mean ± sd", of the rows of a CCC table with one set and definition."""
    return _pivot_markdown(table.assign(cell=list(map(_mean_sd, table["ccc_mean"], table["ccc_sd"]))), "cell")


def describe_scoring(scores: Scores) -> dict[str, Any]:
    """What a reader needs to repeat the scoring: versions, conventions, counts and the bootstrap's seed."""
    return {
        "ltdiff_version": ltdiff.__version__,
        "extractor": extraction.EXTRACTOR,
        "extractor_version": extraction.EXTRACTOR_VERSION,
        "discretisation": extraction.DISCRETISATION,
        "bin_width_hu": extraction.BIN_WIDTH_HU,
        "bootstrap_seed": scores.seed,
        "bootstrap_resamples": concordance.NUM_RESAMPLES,
        "confidence": concordance.CONFIDENCE,
        "num_rois": pd.Series([roi.roi_set for roi in scores.rois], dtype=object).value_counts(sort=False).to_dict(),
    }


def describe_rois(rois: tuple[Roi, ...]) -> dict[str, Any]:
    """The recipe and every region; a disc is rebuilt from its label by `ltdiff.data.rois.disc_mask`."""
    return {
        "recipe": {
            "radius_px": recipe.RADIUS_RANGE_PX,
            "border_px": recipe.BORDER_PX,
            "border_fraction_of_small_images": recipe.BORDER_FRACTION,
            "lowest_mean_hu": recipe.LOWEST_MEAN_HU,
            "hu_ranges": recipe.HU_RANGES,
            "lesion_min_pixels": recipe.MIN_LESION_PIXELS,
        },
        "rois": [_describe_roi(roi) for roi in rois],
    }


def _describe_roi(roi: Roi) -> dict[str, Any]:
    rows, columns = bounding_box(roi.mask)
    return {
        "roi_set": roi.roi_set,
        "slice_index": roi.slice_index,
        "label": roi.label,
        "num_pixels": int(roi.mask.sum()),
        "rows": [rows.start, rows.stop],
        "columns": [columns.start, columns.stop],
    }


def _is_lesion(roi: Roi) -> bool:
    return _is_lesion_set(roi.roi_set)


def _is_lesion_set(roi_set: str) -> bool:
    return not roi_set.startswith(("random", "hu_"))


def _draw_figures(
    scores: Scores,
    *,
    out_dir: Path,
    images: Mapping[str, np.ndarray],
    target_hu: np.ndarray,
    power: pd.DataFrame,
) -> None:
    # a lesion if there is one, and the largest: the region that a reader wants to see
    roi = max(scores.rois, key=lambda roi: (_is_lesion(roi), roi.mask.sum()))
    planes = {method: volume[roi.slice_index] for method, volume in images.items()}
    slices = figures.draw_slices(planes, target_hu=target_hu[roi.slice_index], roi=roi)
    drawn = {"slices.png": slices, "ccc.png": figures.draw_ccc(scores.ccc)}
    if len(power):
        drawn["noise_power.png"] = figures.draw_noise_power(power)
    for name, figure in drawn.items():
        save = partial(figure.savefig, format="png", dpi=100, pil_kwargs={"optimize": True})
        replace_file(out_dir / name, save)


def _pivot_markdown(table: pd.DataFrame, column: str, *, index: tuple[str, ...] = ("method",)) -> str:
    wide = table.pivot_table(
        index=list(index), columns="feature_class", values=column, aggfunc="first", sort=False, observed=True
    )
    return wide.reset_index().to_markdown(index=False, disable_numparse=True)


def _image_metrics_markdown(table: pd.DataFrame) -> str:
    return table.rename(
        columns={
            "mae_hu": "MAE (HU)",
            "rmse_hu": "RMSE (HU)",
            "bias_hu": "bias (HU)",
            "psnr_db": f"PSNR (dB, {DATA_RANGE_HU:g} HU)",
            "ssim": f"SSIM (L = {DATA_RANGE_HU:g} HU)",
        }
    ).to_markdown(index=False, floatfmt=("", ".2f", ".2f", ".2f", ".2f", ".4f"))


def _relative_error_markdown(table: pd.DataFrame) -> str:
    cells = table.assign(cell=[f"{value:.4f}" for value in table["relative_error_median"]])
    return _pivot_markdown(cells, "cell", index=("roi_set", "method"))


def _ratios_note(table: pd.DataFrame) -> str:
    return (
        f"1 − CCC (`across_rois`) of {table['method'].iloc[0]}, divided by that of each other method; below 1, the other "
        f"leaves more. In brackets: {concordance.CONFIDENCE:.0%} interval of a paired bootstrap over slices."
    )


def _ratios_markdown(table: pd.DataFrame) -> str:
    numbers = zip(table["ratio"], table["ci_low"], table["ci_high"], strict=True)
    cells = table.assign(cell=[f"{ratio:.2f} ({low:.2f}–{high:.2f})" for ratio, low, high in numbers])
    return _pivot_markdown(cells, "cell", index=("roi_set", "other"))


def _content_note() -> str:
    return (
        f"Places of at least {CHANGED_DIAMETER_MM:g} mm where the smoothed difference to the target exceeds "
        f"{CHANGED_HU:g} HU (something made, or lost), over all scored slices; for each lesion of the masks, difference "
        "of the mean and of the diameter at half maximum (95th percentile of the absolute values); and the largest deviation "
        "of the noise power spectrum in homogeneous soft tissue, as a share of the target's peak. All of it in content.csv, "
        "lesions.csv and noise_power.csv."
    )


def _shares_note() -> str:
    limits = " / ".join(f"{least:.2f}" for least in REPRODUCIBLE_CCC)
    return f"Share of the features of a class whose CCC across regions is at least {limits}."


def _shares_markdown(table: pd.DataFrame) -> str:
    shares = table.filter(like="ccc_from_").to_numpy()
    cells = table.assign(cell=[" / ".join(f"{share:.2f}" for share in row) for row in shares])
    return _pivot_markdown(cells, "cell", index=("roi_set", "method"))


def _regions_note(table: pd.DataFrame) -> str:
    num_rois = int(table["num_rois"].max())
    few = f"; a CCC of fewer than {FEW_ROIS} says little" if num_rois < FEW_ROIS else ""
    return f"{num_rois} region{'' if num_rois == 1 else 's'}{few}."


def _relative_error_note() -> str:
    return (
        "Median over the regions and the features of a class of |f(A′) − f(B)| / max(|f(B)|, "
        f"{RELATIVE_ERROR_EPSILON:g})."
    )


def _method_note(scores: Scores) -> str:
    facts = describe_scoring(scores)
    counts = ", ".join(f"{name}: {count}" for name, count in facts["num_rois"].items())
    return (
        f"Features by {facts['extractor']} {facts['extractor_version']}, {facts['bin_width_hu']:g} HU bins: "
        f"{facts['discretisation']}. Regions ({counts}) are in rois.json; the same masks on every image. Intervals in "
        f"ccc.csv are {facts['confidence']:.0%} percentile bootstraps over regions "
        f"({facts['bootstrap_resamples']} resamples, seed {facts['bootstrap_seed']}). Features that a region does not "
        "define are left out; num_features and num_rois in ccc.csv count what entered."
    )


def _mean_sd(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)


def write_text(path: Path, text: str) -> None:
    """Write a text as `replace_file` does."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a hidden neighbour, then move it over `path` in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
