"""The catalogue beside PyRadiomics, called region by region for the features that both have; one core but where it says two."""

import logging
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import SimpleITK as sitk
from measure import Benchmark, compare_rates, measure
from pyradiomics_names import SHARED_FIRST_ORDER, SHARED_GLCM
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from ltdiff.radiomics.catalogue import extract_catalogue
from ltdiff.radiomics.feature_sets import CATALOGUE
from ltdiff.radiomics.parallel import ExtractorPool, RegionCut
from ltdiff.radiomics.region import cut_region

SHARED = {  # by PyRadiomics' classes
    "firstorder": [*SHARED_FIRST_ORDER.values(), "Variance"],
    "glcm": list(SHARED_GLCM.values()),
    "ngtdm": ["Complexity", "Strength"],
}


def shared_columns(suffix: str) -> list[str]:
    """The catalogue's names of the same, for "25D" or "3D"."""
    return [
        *(f"ID_{name}" for name in (*SHARED_FIRST_ORDER, "GlobalVariance")),
        *(f"GLCM{suffix}_sum_1_{name}" for name in SHARED_GLCM),
        *(f"NID{suffix}_{name}" for name in ("Complexity", "TextureStrength")),
    ]


def make_region(shape: tuple[int, int, int], radius_px: float, *, seed: int) -> RegionCut:
    """A ball (or disc) of tissue with texture in a box of that shape."""
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    hu = (-400 + 150 * ndimage.gaussian_filter(noise, (0, 0.8, 0.8)) / 0.35).round()
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    mask = sum((axis - n // 2) ** 2 for axis, n in zip(grid, shape, strict=True)) <= radius_px**2
    return RegionCut(hu, mask, (0.8, 0.8))


def pyradiomics_extractor(*, in_plane: bool) -> RadiomicsFeatureExtractor:
    """PyRadiomics set up for the features that both have, and nothing else."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    extractor = RadiomicsFeatureExtractor(binWidth=25, force2D=in_plane, weightingNorm="no_weighting", additionalInfo=False)
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(**SHARED)
    return extractor


def run_pyradiomics(extractor: RadiomicsFeatureExtractor, regions: list[RegionCut]) -> None:
    """Region by region, from arrays, as a user would."""
    for region in regions:
        image, mask = (sitk.GetImageFromArray(a) for a in (region.hu, region.mask.astype(np.uint8)))
        extractor.execute(image, mask)


def run_catalogue(regions: list[RegionCut], only: list[str] | None = None) -> None:
    """Region by region, all features or some."""
    for region in regions:
        extract_catalogue(cut_region(region.hu, region.mask, spacing_mm=region.spacing_mm), only=only)


def benchmarks() -> list[Benchmark]:
    """All figures of the radiomics."""
    discs = [make_region((1, 41, 41), 9.8, seed=i) for i in range(20)]
    (ball,) = [make_region((45, 45, 45), 20.5, seed=0)]
    in_plane, in_space = pyradiomics_extractor(in_plane=True), pyradiomics_extractor(in_plane=False)
    rows = [
        compare_rates(
            f"shared features, 2-D regions of {discs[0].mask.sum()} pixels, beside PyRadiomics",
            lambda: run_catalogue(discs, shared_columns("25D")),
            lambda: run_pyradiomics(in_plane, discs),
            count=len(discs),
            unit="regions/s",
        ),
        compare_rates(
            f"shared features, 3-D regions of {ball.mask.sum()} voxels, beside PyRadiomics",
            lambda: run_catalogue([ball], shared_columns("3D")),
            lambda: run_pyradiomics(in_space, [ball]),
            count=1,
            unit="regions/s",
        ),
        measure(f"whole catalogue, 3-D region of {ball.mask.sum()} voxels", lambda: run_catalogue([ball]), unit="s"),
    ]
    balls = [make_region((45, 45, 45), 20.5, seed=i) for i in range(32)]
    with ExtractorPool(CATALOGUE, num_workers=2) as two, ExtractorPool(CATALOGUE, num_workers=1) as one:
        rows.append(
            compare_rates(
                "whole catalogue, two workers beside one",
                lambda: two.extract(balls),
                lambda: one.extract(balls),
                count=len(balls),
                unit="regions/s",
                repetitions=5,
            )
        )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows.append(Benchmark("peak memory of a worker", pool.submit(peak_mb).result(), None, None, "MB", 1))
    return rows


def peak_mb() -> float:
    """Of a process that measures the whole catalogue of a large region."""
    run_catalogue([make_region((45, 45, 45), 20.5, seed=0)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
