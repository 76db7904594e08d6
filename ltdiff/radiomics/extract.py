"""`ltdiff radiomics`: the features of every region of a mask, of any set of features, as a table."""

import csv
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.data.masks import read_named_masks
from ltdiff.data.read_scan import read_scan
from ltdiff.radiomics.feature_sets import FeatureSet
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

Volume = NDArray[np.float32]
Standardize = Callable[[NDArray[np.bool_]], Iterable[Volume]]
"""(which slices (Z,) of the image are measured or seen by filters) → volumes (Z, Y, X) in HU of which features are averaged"""


def extract_radiomics(
    image: Path,
    mask: Path,
    *,
    feature_set: FeatureSet,
    only: Sequence[str] | None = None,
    standardize: Standardize | None = None,
    keep: Callable[[str, NDArray[np.bool_]], None] | None = None,
) -> pd.DataFrame:
    """One row per region: roi, num_voxels, volume_mm3, the features in the order of their set, and how they were made.

    `image` is what `read_scan` reads, `mask` what `read_named_masks` reads; `only` names some
    classes or features, None all.
    `undefined` counts the features that are NaN by reason, as JSON, "" where all are defined. A region that cannot be measured
    is left out with a warning. With `standardize` the features are those of what it makes of the image, their mean over several
    volumes. `keep` is called with name and mask (Z, Y, X) of each region that was measured.

    Raises:
        ValueError: a feature that there is not; image or mask cannot be read or do not belong together; no region is left.
    """
    names = feature_set.choose(only)  # a name that there is not shows before anything is read
    scan = read_scan(image)
    if scan.irregularity and (in_space := sorted(feature_set.classes_in_space(only))):
        raise ValueError(
            f"the series of {printable(scan.path)} forms no regular grid in space: {scan.irregularity}. The classes "
            f"{', '.join(in_space)} need one; name others"
        )
    hu = scan.read_hu()
    voxels_mm3 = scan.slice_depths_mm * scan.spacing_mm[0] * scan.spacing_mm[1]
    rows = []
    regions: Iterable[tuple[str, NDArray[np.bool_]]] = read_named_masks(mask, scan, hu=hu)
    volumes = [hu]
    if standardize is not None:
        regions = list(regions)  # without a model, one region at a time is in memory
        concerned = np.any([voxels.any(axis=(1, 2)) for _, voxels in regions], axis=0)
        if not scan.irregularity:
            spacing_mm = (scan.slice_spacing_mm, *scan.spacing_mm)
            concerned = _grow(concerned, feature_set.reach_mm(spacing_mm) / scan.slice_spacing_mm)
        volumes = list(standardize(concerned)) if regions else []
    for roi, voxels in regions:
        try:
            measured = [
                feature_set.measure(volume, voxels, (scan.slice_spacing_mm, *scan.spacing_mm), only) for volume in volumes
            ]
        except ValueError as error:
            logger.warning("%s: the region %s is left out: %s", printable(mask), roi, error)
            continue
        values = {name: float(np.mean([each[name] for each, _ in measured])) for name in names}
        reasons = {name: reason for _, of_volume in measured for name, reason in of_volume.items()}
        in_slices = np.count_nonzero(voxels, axis=(1, 2))
        size = {"roi": roi, "num_voxels": int(in_slices.sum()), "volume_mm3": float(in_slices @ voxels_mm3)}
        rows.append({**size, **values, "undefined": json.dumps(Counter(reasons.values())) if reasons else ""})
        if keep is not None:
            keep(roi, voxels)
    if not rows:
        raise ValueError(f"{printable(mask)}: no region of the mask can be measured")
    return pd.DataFrame(rows).assign(
        extractor=feature_set.extractor,
        extractor_version=feature_set.extractor_version,
        discretisation=feature_set.discretisation,
    )


def _grow(concerned: NDArray[np.bool_], num_slices: float) -> NDArray[np.bool_]:
    """The slices (Z,) of the regions, and so many beyond, which filters and the like see."""
    if not concerned.any():
        return concerned
    distance = np.abs(np.arange(len(concerned))[:, None] - np.flatnonzero(concerned)).min(axis=1)
    return np.asarray(distance <= math.ceil(min(num_slices, len(concerned))))


def to_text(table: pd.DataFrame) -> str:
    """The table for the eye and for `grep`: one line per column, tab-separated, a column per region."""
    return table.set_index("roi").T.to_csv(sep="\t", index_label="feature", na_rep="nan", quoting=csv.QUOTE_NONE)
