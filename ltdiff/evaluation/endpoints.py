"""Clinical end points: what emphysema studies and follow-up of lesions report, measured inside one mask on all images.

laa_950_percent   low attenuation area: share of the voxels below −950 HU, in percent
perc15_hu         15th percentile of the voxels
mean_hu           their mean
mass_g            mass, of tissue with water's density at 0 HU and none at −1000 HU

LAA−950 and Perc15 as in the Fleischner Society's statement: D. A. Lynch et al., Radiology 277 (2015) 192.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.evaluation.agreement import AGREEMENT_COLUMNS, agreement
from ltdiff.evaluation.scored_scan import ScoredScan
from ltdiff.inference.method import Slices

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

LAA_HU = -950.0
PERCENTILE = 15.0
LUNGS, LESION = "lungs", "lesion"
ENDPOINTS = {LUNGS: ("laa_950_percent", "perc15_hu", "mean_hu", "mass_g"), LESION: ("mean_hu",)}
"""Of each kind of region, those that are compared; its volume is the mask's, the same on all images."""
COLUMNS = ("region", "label", "first_slice", "num_slices", "volume_ml", "endpoint", "method", "value", "target", "difference")
KEYS = ["region", "endpoint", "method"]


def region_endpoints(hu: NDArray[np.floating], mask: Bool, voxels_ml: Float) -> dict[str, float]:
    """`volume_ml` and the end points of the True voxels, at least one, of a mask (Z, Y, X) in an image (Z, Y, X) in HU.

    `voxels_ml` (Z,) is the volume of a voxel of each slice; where it is NaN, so are volume and mass.
    """
    values = hu[mask].astype(np.float64)
    volumes_ml = np.repeat(voxels_ml, mask.sum(axis=(1, 2)))
    return {
        "volume_ml": float(volumes_ml.sum()),
        "mean_hu": float(values.mean()),
        "laa_950_percent": float(100 * (values < LAA_HU).mean()),
        "perc15_hu": float(np.percentile(values, PERCENTILE)),
        "mass_g": float(volumes_ml @ (1 + values / 1000)),
    }


def endpoint_table(images: Mapping[str, Slices], scan: ScoredScan) -> pd.DataFrame:
    """COLUMNS for each region of each pair of series, end point and method, of a scan's `images` (Z, Y, X) in HU.

    The lungs are those of `scan`, lesions those of its labels. Of a single slice no volume is known.
    """
    rows = []
    for region, label, where, mask in _regions(scan):
        voxels_ml = voxel_volumes_ml(scan.places["z_mm"].to_numpy()[where], scan.spacings_mm[where])
        of_target = region_endpoints(scan.target_hu[where], mask, voxels_ml)
        place = (region, label, scan.first + where[0], len(where), of_target["volume_ml"])
        measured = {method: region_endpoints(hu[where], mask, voxels_ml) for method, hu in images.items()}
        for name in ENDPOINTS[region]:
            for method, values in measured.items():
                rows.append((*place, name, method, values[name], of_target[name], values[name] - of_target[name]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def endpoint_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """KEYS, the means over the regions, and AGREEMENT_COLUMNS, of a table from `endpoint_table`."""
    rows = []
    for keys, group in table.groupby(KEYS, sort=False):
        value, target = group["value"].to_numpy(float), group["target"].to_numpy(float)
        rows.append((*keys, value.mean(), target.mean(), *agreement(value, target).values()))
    return pd.DataFrame(rows, columns=[*KEYS, "mean", "target_mean", *AGREEMENT_COLUMNS])


def _regions(scan: ScoredScan) -> Iterator[tuple[str, str, NDArray[np.int64], Bool]]:
    """Kind and label of each region, the slices of its pair of series, and its mask on these."""
    for number in np.unique(scan.series):
        (where,) = np.nonzero(scan.series == number)
        if (lungs := scan.lungs[where]).any():
            yield LUNGS, "", where, lungs
        if scan.labels is None:
            continue
        labels = scan.labels[where]
        for label in np.unique(labels[labels > 0]):
            yield LESION, f"label_{label}", where, labels == label


def voxel_volumes_ml(z_mm: Float, spacings_mm: Float) -> Float:
    """The volume (N,) of a voxel of each slice of one series, at `z_mm` (N,) with (y, x) `spacings_mm` (N, 2).

    A slice reaches half way to the next ones. Of a single slice it is not known: NaN.
    """
    steps_mm = np.diff(np.unique(z_mm))
    depth_mm = steps_mm.min() if len(steps_mm) else np.nan
    return np.asarray(spacings_mm.prod(axis=1) * depth_mm / 1000)
