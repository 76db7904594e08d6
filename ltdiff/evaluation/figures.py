"""Pictures of an evaluation (the only import of matplotlib). Each function returns a figure; the report saves it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from ltdiff.data.rois import Roi, bounding_box

LUNG_WINDOW_HU = (-1350.0, 150.0)
"""Level −600, width 1500."""
DIFFERENCE_HU = 200.0
"""Full colour of the difference images."""
_ZOOM_MARGIN_PX = 24
_PANEL_INCHES = 2.4
_COLOURS = ["#9aa3ad", "#e0a030", "#1f6fb4", "#3b9b6d", "#b5517a", "#7a5bb0", "#c0653a", "#4aa7b8", "#8a8a2b", "#444444"]


def draw_slices(
    images_hu: Mapping[str, NDArray[np.float32]], *, target_hu: NDArray[np.float32], roi: Roi, is_paired: bool = True
) -> Figure:
    """One slice of every method and the target, each (Y, X): lung window, difference to the target, region enlarged.

    Where they are no pair, the target shows somebody else: the differences are to the first of the images, the source.
    """
    panels = {**images_hu, "target": target_hu}
    compared = "target" if is_paired else next(iter(images_hu))
    figure = Figure(figsize=(_PANEL_INCHES * len(panels), _PANEL_INCHES * 3.1), layout="constrained")
    axes = figure.subplots(3, len(panels), squeeze=False)
    zoom = _zoom(roi.mask)
    for (method, plane), (whole, difference, detail) in zip(panels.items(), axes.T, strict=True):
        _show(whole, plane, "gray", LUNG_WINDOW_HU)
        whole.set_title(method, fontsize=10)
        if method != "target":
            shown = _show(difference, plane - panels[compared], "RdBu_r", (-DIFFERENCE_HU, DIFFERENCE_HU))
        else:
            difference.axis("off")
        if method != "target" or is_paired:
            _outline(whole, zoom)
            _show(detail, plane[zoom], "gray", LUNG_WINDOW_HU)
            detail.contour(roi.mask[zoom], levels=[0.5], colors="#ffd21f", linewidths=0.8)
        else:
            detail.axis("off")
    bar = figure.colorbar(shown, cax=axes[1, -1].inset_axes((0.05, 0.1, 0.08, 0.8)), extend="both")
    bar.set_label(f"method − {compared} (HU)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    for row, name in zip(axes, ("lung window", "difference", f"{roi.roi_set} region"), strict=True):
        row[0].set_ylabel(name, fontsize=9)
    return figure


def draw_ccc(ccc: pd.DataFrame) -> Figure:
    """Bars of the class means with their confidence intervals, one panel per roi_set of a CCC table."""
    chosen = ccc[ccc["definition"] == "across_rois"]
    defined = chosen[chosen["ccc_mean"].notna()]  # a single region has no CCC
    chosen = chosen[chosen["roi_set"].isin(defined["roi_set"])] if len(defined) else chosen
    roi_sets = list(chosen["roi_set"].unique())
    figure = Figure(figsize=(7.0, 0.6 + 2.4 * len(roi_sets)), layout="constrained")
    for axis, roi_set in zip(figure.subplots(len(roi_sets), 1, squeeze=False)[:, 0], roi_sets, strict=True):
        _draw_bars(axis, chosen[chosen["roi_set"] == roi_set])
        axis.set_title(f"CCC across rois, {roi_set} regions", fontsize=10, loc="left")
    methods = chosen["method"].nunique()
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(methods, 4), frameon=False, fontsize=9
    )
    return figure


def draw_noise_power(power: pd.DataFrame) -> Figure:
    """Curves of a noise power table (see `noise_power`), the target's in black."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axis = figure.subplots()
    is_target = power["method"] == "target"
    _draw_curves(axis, power[~is_target], "power_hu2_mm2", target=power.loc[is_target, "power_hu2_mm2"])
    axis.set_ylabel("noise power (HU² mm²)", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    return figure


def draw_mtf(table: pd.DataFrame) -> Figure:
    """Curves of an MTF table (see `mtf`), one panel per kind of disc, the target's in black."""
    kinds = list(table["kind"].unique())
    figure = Figure(figsize=(3.4 * len(kinds), 3.4), layout="constrained")
    for axis, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        of_kind = table[table["kind"] == kind]
        _draw_curves(axis, of_kind, "mtf", target=of_kind.drop_duplicates("frequency_per_mm")["target_mtf"])
        axis.set_title(kind, fontsize=10, loc="left")
    figure.axes[0].set_ylabel("MTF", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def draw_protocols(curves: pd.DataFrame) -> Figure:
    """Curves of an evaluation without pairs (see `protocol_curves`), one panel per kind, the target's in black."""
    kinds = list(curves["kind"].unique())
    figure = Figure(figsize=(3.6 * len(kinds), 3.4), layout="constrained")
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        of_kind = curves[curves["kind"] == kind]
        is_target = of_kind["method"] == "target"
        _draw_curves(axis, of_kind[~is_target], "value", target=of_kind.loc[is_target, "value"])
        axis.set_title(kind, fontsize=10, loc="left")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def draw_distributions(differences: pd.DataFrame, stages: Sequence[str]) -> Figure:
    """Share of features below a difference (see `HarmonizationDiagnostics`), a curve for every stage."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    panels = {
        "mean_difference": "difference of means (SD)",
        "variance_ratio": "ratio of variances (log₂)",
        "ks": "Kolmogorov–Smirnov",
    }
    for axis, (quantity, label) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        for stage, colour in zip(stages, _COLOURS, strict=False):
            values = differences[f"{quantity}_{stage}"].dropna()
            sizes = np.abs(np.log2(values) if quantity == "variance_ratio" else values)
            axis.ecdf(sizes, label=stage.replace("_", " "), color=colour)
        axis.set_xlabel(label, fontsize=9)
        axis.grid(color="#dddddd", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.axes[0].set_ylabel("share of features", fontsize=9)
    figure.axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _draw_curves(axis: Axes, table: pd.DataFrame, column: str, *, target: pd.Series) -> None:
    """A curve over frequency for every method, and the target's, which has the same frequencies."""
    for i, (method, curve) in enumerate(table.groupby("method", sort=False)):
        axis.plot(curve["frequency_per_mm"], curve[column], label=method, color=_COLOURS[i % len(_COLOURS)])
    frequencies = table["frequency_per_mm"].unique()
    axis.plot(frequencies, target, label="target", color="black", linestyle="--")
    axis.set_xlabel("frequency (1/mm)", fontsize=9)
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _draw_bars(axis: Axes, table: pd.DataFrame) -> None:
    methods, classes = list(table["method"].unique()), list(table["feature_class"].unique())
    width = 0.8 / len(methods)
    for i, method in enumerate(methods):
        rows = table[table["method"] == method].set_index("feature_class").loc[classes]
        mean = rows["ccc_mean"].to_numpy(dtype=float)
        # a percentile interval need not hold the mean of the whole sample: no negative bar then
        below, above = mean - rows["ci_low"].to_numpy(dtype=float), rows["ci_high"].to_numpy(dtype=float) - mean
        axis.bar(
            np.arange(len(classes)) + (i - (len(methods) - 1) / 2) * width,
            mean,
            width * 0.92,
            yerr=np.maximum([below, above], 0.0),
            label=method,
            color=_COLOURS[i % len(_COLOURS)],
            error_kw={"elinewidth": 0.9, "capsize": 2.5, "ecolor": "#222222"},
        )
    axis.set_xticks(np.arange(len(classes)), classes)
    axis.set_ylim(min(0.0, float(table["ci_low"].min())), 1.02)
    axis.grid(axis="y", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def _show(axis: Axes, plane: NDArray[np.float32], colours: str, range_hu: tuple[float, float]) -> AxesImage:
    shown = axis.imshow(plane, cmap=colours, vmin=range_hu[0], vmax=range_hu[1], interpolation="auto")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return shown


def _outline(axis: Axes, zoom: tuple[slice, slice]) -> None:
    rows, columns = zoom
    corners_y = [rows.start, rows.start, rows.stop, rows.stop, rows.start]
    corners_x = [columns.start, columns.stop, columns.stop, columns.start, columns.start]
    axis.plot(corners_x, corners_y, color="#ffd21f", linewidth=0.8, scalex=False, scaley=False)


def _zoom(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """A square round the region, inside the image where that is large enough."""
    box = bounding_box(mask)
    side = max(part.stop - part.start for part in box) + 2 * _ZOOM_MARGIN_PX
    starts = [
        int(np.clip((part.start + part.stop - side) // 2, 0, max(size - side, 0)))
        for part, size in zip(box, mask.shape, strict=True)
    ]
    rows, columns = (slice(start, min(start + side, size)) for start, size in zip(starts, mask.shape, strict=True))
    return rows, columns
