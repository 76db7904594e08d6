"""The catalogue beside PyRadiomics, called region by region for the features that both have; one core but where it says two."""

import logging
import multiprocessing
import resource
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import SimpleITK as sitk
from measure import Benchmark, compare_rates, measure
from pyradiomics_names import SHARED_FIRST_ORDER, SHARED_GLCM
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from ltdiff.radiomics import space_features
from ltdiff.radiomics.catalogue import extract_catalogue
from ltdiff.radiomics.config import FilterConfig, IbsiConfig
from ltdiff.radiomics.feature_sets import CATALOGUE, FEATURE_SETS, ibsi_set
from ltdiff.radiomics.parallel import ExtractorPool, RegionCut
from ltdiff.radiomics.pyradiomics_tags import TAGS, ibsi_columns
from ltdiff.radiomics.region import cut_region

BALL_MM = (0.8, 0.8, 0.8)
FILTER_MARGIN_PX = 8
"""Of the scan round a region, which filters reach."""
LOG_SIGMA_MM = 1.5
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


def measure_all(region: RegionCut) -> int:
    """Every feature of the sets in space: the number of values."""
    sets = [FEATURE_SETS[name] for name in ("catalogue", "ibsi", "wavelet")]
    return sum(len(one.measure(region.hu, region.mask, BALL_MM, None)[0]) for one in sets)


def filter_benchmarks() -> list[Benchmark]:
    """Features of filtered images beside PyRadiomics' own extractor, and all sets of one region; CPU time on one core."""
    ball = make_region((45, 45, 45), 20.5, seed=0)
    hu, mask = np.pad(ball.hu, FILTER_MARGIN_PX, mode="symmetric"), np.pad(ball.mask, FILTER_MARGIN_PX)
    images = [sitk.GetImageFromArray(array) for array in (hu, mask.astype(np.uint8))]
    for image in images:
        image.SetSpacing(BALL_MM[::-1])
    names = space_features.feature_names()
    wavelets = filter_extractor(names, Original={}, Wavelet={})
    log = filter_extractor(TAGS, LoG={"sigma": [LOG_SIGMA_MM]})
    of_log = ibsi_set(IbsiConfig(filter=FilterConfig(kind="log", log_sigma_mm=LOG_SIGMA_MM)))
    columns = [*ibsi_columns(TAGS, within="3D").values()]
    region = RegionCut(hu, mask, BALL_MM[1:])
    about = f"3-D region of {ball.mask.sum()} voxels"
    return [
        compare_rates(
            f"set of 702 with wavelets, {about}, beside PyRadiomics",
            lambda: FEATURE_SETS["wavelet"].measure(hu, mask, BALL_MM, None),
            lambda: wavelets.execute(*images),
            count=1,
            unit="regions/s of CPU time",
            clock=time.process_time,
        ),
        compare_rates(
            f"{len(columns)} features of a Laplacian of Gaussian, {about}, beside PyRadiomics",
            lambda: of_log.measure(hu, mask, BALL_MM, columns),
            lambda: log.execute(*images),
            count=1,
            unit="regions/s of CPU time",
            clock=time.process_time,
        ),
        measure(
            f"catalogue, IBSI and wavelets, {measure_all(region)} values of a {about}",
            lambda: measure_all(region),
            unit="s of CPU time",
            clock=time.process_time,
        ),
    ]


def filter_extractor(names: Iterable[str], **image_types: dict[str, list[float]]) -> RadiomicsFeatureExtractor:
    """PyRadiomics set up for these features of filtered images, by its names "class_Feature"."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    extractor = RadiomicsFeatureExtractor(binWidth=25, wavelet="coif1", additionalInfo=False)
    extractor.disableAllFeatures()
    of_class: dict[str, list[str]] = {}
    for name in names:
        feature_class, feature = name.split("_", 1)
        of_class.setdefault(feature_class, []).append(feature)
    extractor.enableFeaturesByName(**of_class)
    extractor.enableImageTypes(**image_types)
    return extractor


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
    rows += filter_benchmarks()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows.append(Benchmark("peak memory of a worker", pool.submit(peak_mb).result(), None, None, "MB", 1))
    return rows


def peak_mb() -> float:
    """Of a process that measures the whole catalogue of a large region."""
    run_catalogue([make_region((45, 45, 45), 20.5, seed=0)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
