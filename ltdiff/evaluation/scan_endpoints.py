"""`ltdiff endpoints`: the clinical end points of any scan, or of several images of one scan inside the same mask."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ltdiff.data.masks import read_named_masks
from ltdiff.data.read_scan import read_scan
from ltdiff.data.same_grid import voxel_difference
from ltdiff.evaluation.endpoints import LUNGS, Bool, region_endpoints
from ltdiff.evaluation.lung_mask import find_lungs
from ltdiff.inference.method import Slices
from ltdiff.system.text import printable


def measure_endpoints(images: Sequence[Path], *, mask: Path | None = None) -> pd.DataFrame:
    """One row per image and region: image, roi, num_voxels, volume_ml, mean_hu, laa_950_percent, perc15_hu, mass_g.

    `images` are what `read_scan` reads, on one grid. The regions are the lungs of the first image, or those of `mask`, which is
    what `read_named_masks` reads, on the first image's grid.

    Raises:
        ValueError: an image or the mask cannot be read; the images are not on one grid; there are no lungs in the first image.
    """
    scans = [read_scan(path) for path in images]
    for path, scan in zip(images[1:], scans[1:], strict=True):
        if reason := voxel_difference(scans[0], scan):
            raise ValueError(f"{printable(path)} and {printable(images[0])} are not on one grid: {reason}")
    rows = []
    regions: list[tuple[str, Bool]] = []
    for path, scan in zip(images, scans, strict=True):
        hu = scan.read_hu()
        if not regions and mask is not None:
            regions = list(read_named_masks(mask, scan, hu=hu))
        elif not regions:
            regions = [(LUNGS, _find_lungs(path, hu, scan.spacing_mm))]
        voxels_ml = scan.slice_depths_mm * scan.spacing_mm[0] * scan.spacing_mm[1] / 1000
        for roi, voxels in regions:
            size = {"image": printable(path), "roi": roi, "num_voxels": int(voxels.sum())}
            rows.append(size | region_endpoints(hu, voxels, voxels_ml))
    return pd.DataFrame(rows)


def _find_lungs(image: Path, hu: Slices, spacing_mm: tuple[float, float]) -> Bool:
    lungs = find_lungs(hu, spacing_mm)
    if not lungs.any():
        raise ValueError(f"{printable(image)}: no lungs are found here; name regions with --mask")
    return lungs
