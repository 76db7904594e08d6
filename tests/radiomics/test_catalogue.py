"""The catalogue: its columns, PyRadiomics' values where it has the same features, naive loops, IBSI's values, odd regions."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pyradiomics_names import SHARED_FIRST_ORDER, SHARED_GLCM
from radiomics import firstorder, glcm, glrlm, ngtdm
from scipy import ndimage

from ltdiff.data.masks import read_named_masks
from ltdiff.data.scan import read_scan
from ltdiff.radiomics import cooccurrence, intensity, neighbour_difference, run_length
from ltdiff.radiomics.catalogue import (
    CatalogueConfig,
    extract_catalogue,
    feature_names,
    ibsi_ids,
)
from ltdiff.radiomics.histogram import Histogram
from ltdiff.radiomics.matrices import DIRECTIONS_2D, DIRECTIONS_3D, count_runs
from ltdiff.radiomics.region import Region, cut_region

IBSI = json.loads((Path(__file__).parent / "ibsi_digital_phantom.json").read_text())
IBSI_PHANTOM = [  # 0 is outside the region
    [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
    [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
]


def simulated_region(seed: int, *, num_slices: int = 5) -> Region:
    """A smooth blob with texture: an ellipsoid with holes, HU like those of a lesion."""
    rng = np.random.default_rng(seed)
    shape = (num_slices, 30, 34)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    radius = rng.uniform(6, 12)
    inside = ((z - num_slices / 2) * 3) ** 2 + (y - 14) ** 2 + (x - 17) ** 2 <= radius**2
    mask = inside & (rng.random(shape) > 0.05)
    mask &= (
        ndimage.convolve(mask.astype(int), np.ones((1, 3, 3), int), mode="constant") > 1
    )  # see the test of lone voxels
    hu = rng.normal(rng.choice([-700.0, 40.0]), rng.uniform(40, 250), shape)
    hu = ((hu + np.roll(hu, 1, axis=2) + np.roll(hu, 1, axis=1)) / 3).round()
    return cut_region(hu, mask, spacing_mm=(0.8, 0.7))


def pyradiomics(feature_class, region: Region, **settings):
    """A feature class of PyRadiomics, ready to execute on the region."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    image, mask = (sitk.GetImageFromArray(a) for a in (region.hu, region.mask.astype(np.uint8)))
    for volume in (image, mask):
        volume.SetSpacing((*region.spacing_mm[::-1], 3.0))
    return feature_class(image, mask, binWidth=25, label=1, **settings)


def of_one_direction(calculator, matrix: str, shift: tuple[int, int, int], angles) -> dict[str, float]:
    """The features of one of the matrices that PyRadiomics would average."""
    calculator._initCalculation()
    (index,) = (k for k, angle in enumerate(angles) if angle in (shift, tuple(-step for step in shift)))
    setattr(calculator, matrix, calculator._calculateMatrix()[..., [index]])
    if matrix == "P_glrlm":
        calculator.coefficients["Nr"] = calculator.coefficients["Nr"][:, [index]]
    calculator._calculateCoefficients()
    calculator._initCalculation = lambda *_: None  # execute() would count all directions again
    return calculator.execute()


def glcm_angles(region: Region, **settings) -> list[tuple[int, int, int]]:
    """The directions of PyRadiomics' matrices in its order."""
    from radiomics import cMatrices

    levels, mask = region.discretise(25).astype(np.intc), region.mask
    force_2d = settings.get("force2D", False)
    _, angles = cMatrices.calculate_glcm(levels, mask, np.array([1]), int(levels.max()), force_2d, 0)
    return [tuple(int(s) for s in angle) for angle in angles]


def assert_equal(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert {name: ours[name] for name in theirs} == pytest.approx(
        {name: float(v) for name, v in theirs.items()}, rel=1e-6
    )


def test_the_numbers_of_the_catalogue():
    names = feature_names()
    assert len(names) == len(set(names)) == 1401 + 49
    assert Counter(name.split("_")[0] for name in names) == {
        "GLCM25D": 330,
        "GLCM3D": 924,
        "GLRLM25D": 33,
        "ID": 55,
        "IH": 49,
        "NID25D": 5,
        "NID3D": 5,
        "GOH": 49,
    }
    assert all(re.fullmatch(r"[A-Z0-9]+(_[a-z0-9+-]+_\d|_[a-z0-9]+)?_[A-Za-z0-9.]+", name) for name in names)


def assert_shared_values(region: Region) -> None:
    ours, _ = extract_catalogue(region)
    theirs = {}
    for prefix, settings in (("GLCM25D", {"force2D": True, "force2Ddimension": 0}), ("GLCM3D", {})):
        pooled = pyradiomics(glcm.RadiomicsGLCM, region, weightingNorm="no_weighting", **settings).execute()
        theirs |= {f"{prefix}_sum_1_{name}": pooled[other] for name, other in SHARED_GLCM.items()}
    first_order = pyradiomics(firstorder.RadiomicsFirstOrder, region).execute()
    theirs |= {f"ID_{name}": first_order[other] for name, other in SHARED_FIRST_ORDER.items()}
    n = region.mask.sum()
    theirs["ID_GlobalVariance"] = first_order["Variance"] * n / (n - 1)
    theirs["ID_GlobalStd"] = np.sqrt(theirs["ID_GlobalVariance"])
    for prefix, settings in (("NID25D", {"force2D": True, "force2Ddimension": 0}), ("NID3D", {})):
        differences = pyradiomics(ngtdm.RadiomicsNGTDM, region, **settings).execute()
        theirs |= {
            f"{prefix}_Complexity": differences["Complexity"],
            f"{prefix}_TextureStrength": differences["Strength"],
        }
    assert_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(50))
def test_values_that_pyradiomics_has_too(seed):
    assert_shared_values(simulated_region(seed))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("lung-pet-ct-dx-a0001/sharp_L", "lung-pet-ct-dx-a0001/tumour_mask.nii.gz"),
        ("lidc-small/LIDC-IDRI-0001", "lidc-small/LIDC-IDRI-0001/mask_consensus2.nii.gz"),
        ("4d-lung-p113/ct", "4d-lung-p113/rtstruct"),
    ],
)
def test_values_that_pyradiomics_has_too_in_real_scans(real_data, image, mask):
    scan = read_scan(real_data / image)
    voxels = next(iter(read_named_masks(real_data / mask, scan).values()))
    assert_shared_values(cut_region(scan.volume.hu, voxels, spacing_mm=scan.volume.spacing_mm[1:]))


@pytest.mark.parametrize("seed", range(3))
def test_every_direction_has_the_values_of_pyradiomics(seed):
    region = simulated_region(seed)
    ours, _ = extract_catalogue(region, only=["GLCM25D", "GLCM3D", "GLRLM25D"])
    in_plane = {"force2D": True, "force2Ddimension": 0}
    theirs = {}
    for prefix, directions, settings in (("GLCM25D", DIRECTIONS_2D, in_plane), ("GLCM3D", DIRECTIONS_3D, {})):
        angles = glcm_angles(region, **settings)
        for name, shift in directions.items():
            values = of_one_direction(pyradiomics(glcm.RadiomicsGLCM, region, **settings), "P_glcm", shift, angles)
            theirs |= {f"{prefix}_{name}_1_{feature}": values[other] for feature, other in SHARED_GLCM.items()}
    angles = glcm_angles(region, **in_plane)
    for name in ("0", "90"):
        calculator = pyradiomics(glrlm.RadiomicsGLRLM, region, **in_plane)
        values = of_one_direction(calculator, "P_glrlm", DIRECTIONS_2D[name], angles)
        columns = [column for column in ours if column.startswith(f"GLRLM25D_{name}_")]
        theirs |= {column: values[column.rsplit("_", 1)[1]] for column in columns}
    assert len(theirs) == (4 + 13) * len(SHARED_GLCM) + 2 * 11
    assert_equal(ours, theirs)


def naive_pairs(levels: np.ndarray, shift: tuple[int, int, int]) -> Counter:
    """Both orders of all pairs of levels above 0 at a shift, by loops."""
    pairs: Counter = Counter()
    for place in np.ndindex(levels.shape):
        other = tuple(int(p + s) for p, s in zip(place, shift, strict=True))
        if all(0 <= p < n for p, n in zip(other, levels.shape, strict=True)) and levels[place] and levels[other]:
            pairs[levels[place], levels[other]] += 1
            pairs[levels[other], levels[place]] += 1
    return pairs


def naive_sum_variance(pairs: Counter) -> float:
    """Haralick's sum variance, around the sum entropy."""
    number = sum(pairs.values())
    shares: Counter = Counter()
    for (i, j), count in pairs.items():
        shares[i + j] += count / number
    entropy = -sum(p * math.log2(p) for p in shares.values())
    return sum((k - entropy) ** 2 * p for k, p in shares.items())


@pytest.mark.parametrize("seed", range(2))
def test_co_occurrences_at_every_offset_equal_a_naive_loop(seed):
    region = simulated_region(seed, num_slices=9)
    ours, _ = extract_catalogue(region, only=["GLCM25D", "GLCM3D"])
    levels = region.discretise(25)
    for prefix, directions in (("GLCM25D", DIRECTIONS_2D), ("GLCM3D", DIRECTIONS_3D)):
        for offset in (1, 4, 7):
            pooled: Counter = Counter()
            is_across = prefix == "GLCM25D"
            for name, shift in directions.items():
                pairs = naive_pairs(levels, tuple(offset * step for step in shift))
                pooled += pairs
                is_across |= bool(shift[0] and pairs)
                if not pairs:
                    assert math.isnan(ours[f"{prefix}_{name}_{offset}_Contrast"])
                    continue
                number = sum(pairs.values())
                contrast = sum((i - j) ** 2 * count for (i, j), count in pairs.items()) / number
                energy = sum((count / number) ** 2 for count in pairs.values())
                assert ours[f"{prefix}_{name}_{offset}_Contrast"] == pytest.approx(contrast)
                assert ours[f"{prefix}_{name}_{offset}_Energy"] == pytest.approx(energy)
                assert ours[f"{prefix}_{name}_{offset}_SumVariance"] == pytest.approx(naive_sum_variance(pairs))
            expected = (
                naive_sum_variance(pooled) if is_across else math.nan
            )  # see the test of regions that are too thin
            assert ours[f"{prefix}_sum_{offset}_SumVariance"] == pytest.approx(expected, nan_ok=True)


def test_run_lengths_along_both_directions_equal_a_naive_loop():
    region = simulated_region(1)
    levels = region.discretise(200)
    ours, _ = extract_catalogue(region, only=["GLRLM25D"], config=CatalogueConfig(bin_width=200))
    runs: list[tuple[int, int]] = []
    for plane in levels:
        for line in (*plane, *plane.T):
            runs += [(int(level), len(list(run))) for level, run in itertools.groupby(line) if level]
    assert max(length for _, length in runs) > 3
    by_level, by_length = Counter(level for level, _ in runs), Counter(length for _, length in runs)
    number = len(runs)
    expected = {
        "ShortRunEmphasis": sum(1 / n**2 for _, n in runs) / number,
        "LongRunHighGrayLevelEmphasis": sum(i**2 * n**2 for i, n in runs) / number,
        "ShortRunLowGrayLevelEmphasis": sum(1 / (i * n) ** 2 for i, n in runs) / number,
        "GrayLevelNonUniformity": sum(n**2 for n in by_level.values()) / number,
        "RunLengthNonUniformity": sum(n**2 for n in by_length.values()) / number,
        "RunPercentage": number / (2 * region.mask.sum()),
    }
    assert {name: ours[f"GLRLM25D_sum_{name}"] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("prefix", "reach"), [("NID25D", (0, 1, 1)), ("NID3D", (1, 1, 1))])
def test_neighbour_differences_equal_a_naive_loop(prefix, reach):
    region = simulated_region(4)
    levels = region.discretise(25)
    ours, _ = extract_catalogue(region, only=[prefix])
    s, n = Counter(), Counter()
    steps = [step for step in itertools.product(*(range(-r, r + 1) for r in reach)) if any(step)]
    for place in zip(*np.nonzero(levels), strict=True):
        others = [tuple(p + q for p, q in zip(place, step, strict=True)) for step in steps]
        around = [
            levels[o] for o in others if all(0 <= p < m for p, m in zip(o, levels.shape, strict=True)) and levels[o]
        ]
        if around:
            n[int(levels[place])] += 1
            s[int(levels[place])] += abs(levels[place] - np.mean(around))
    number, total = sum(n.values()), sum(s.values())
    p = {i: count / number for i, count in n.items()}
    pairs = list(itertools.product(p, p))
    expected = {
        "Coarseness": 1 / (total / number),
        "Contrast": total / number * np.mean([p[i] * p[j] * (i - j) ** 2 for i, j in pairs]),
        "Busyness": total / number / sum(abs(i * p[i] - j * p[j]) for i, j in pairs),
        "Complexity": sum(abs(i - j) * (p[i] * s[i] + p[j] * s[j]) / (number * (p[i] + p[j])) for i, j in pairs),
        "TextureStrength": sum((p[i] + p[j]) * (i - j) ** 2 for i, j in pairs) / total,
    }
    assert {name: ours[f"{prefix}_{name}"] for name in expected} == pytest.approx(expected)


def test_local_features_equal_a_naive_loop():
    region = simulated_region(5, num_slices=3)
    ours, _ = extract_catalogue(region, only=["ID"])
    levels = region.discretise(25)

    def around(place: tuple[int, ...], reach: int) -> tuple[slice, ...]:
        z, y, x = place
        return z, slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)

    entropies, ranges, stds = [], [], []
    for place in zip(*np.nonzero(region.mask), strict=True):
        hu = region.hu[around(place, 1)][region.mask[around(place, 1)]]
        ranges.append(np.ptp(hu))
        stds.append(hu.std(ddof=1) if len(hu) > 1 else 0.0)
        counts = np.unique(levels[around(place, 4)][region.mask[around(place, 4)]], return_counts=True)[1]
        shares = counts / counts.sum()
        entropies.append(-(shares * np.log2(shares)).sum())
    for name, values in (("Entropy", entropies), ("Range", ranges), ("Std", stds)):
        expected = {"Max": np.max(values), "Mean": np.mean(values), "Median": np.median(values), "Min": np.min(values)}
        expected["Std"] = np.std(values, ddof=1)
        got = {statistic: ours[f"ID_Local{name}{statistic}"] for statistic in expected}
        assert got == pytest.approx(expected, abs=1e-9)


def naive_quantile(ordered: list[float], share: float) -> float:
    """Interpolated between the two values round a place."""
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (place % 1) * (high - low)


def naive_percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"Percentile{p:02d}": naive_quantile(ordered, p / 100) for p in range(5, 100, 5)} | {
        f"Quantile{q}": naive_quantile(ordered, q) for q in (0.025, 0.25, 0.5, 0.75, 0.975)
    }


def naive_area(values: list[float], share: float, *, low: float, width: float) -> float:
    """Bin by bin until the area under the histogram reaches the share, and then into the bin."""
    seen, edge = 0, low
    while (inside := sum(edge <= v < edge + width for v in values)) + seen < share * len(values) - 1e-9:
        seen, edge = seen + inside, edge + width
    return edge + width * (share * len(values) - seen) / inside


def naive_histogram_features(values: list[float], *, low: float, width: float) -> dict[str, float]:
    """All 49."""
    mean, median, n = sum(values) / len(values), statistics.median(values), len(values)
    moments = {k: sum((v - mean) ** k for v in values) / n for k in (2, 3, 4)}
    ordered = sorted(values)
    return {
        "InterQuartileRange": naive_quantile(ordered, 0.75) - naive_quantile(ordered, 0.25),
        "Kurtosis": moments[4] / moments[2] ** 2,
        "MeanAbsoluteDeviation": sum(abs(v - mean) for v in values) / n,
        "MedianAbsoluteDeviation": statistics.median(abs(v - median) for v in values),
        "Range": ordered[-1] - ordered[0],
        "Skewness": moments[3] / moments[2] ** 1.5,
        **naive_percentiles(values),
        **{f"PercentileArea{p:02d}": naive_area(values, p / 100, low=low, width=width) for p in range(5, 100, 5)},
    }


def assert_class(ours: dict[str, float], of_class: str, expected: dict[str, float]) -> None:
    got = {name.removeprefix(f"{of_class}_"): value for name, value in ours.items() if name.startswith(f"{of_class}_")}
    assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_histograms_equal_a_naive_computation():
    region = simulated_region(2)
    ours, _ = extract_catalogue(region, only=["ID", "IH"])
    values = [min(max(float(v), -1000.0), 1000.0) for v in region.values_hu]
    expected = naive_histogram_features(values, low=-1000, width=10)
    assert len(expected) == 49
    assert_class(ours, "IH", expected)
    assert_class(ours, "ID", naive_percentiles(region.values_hu.tolist()))
    median = statistics.median(region.values_hu)
    assert ours["ID_MedianAbsoluteDeviation"] == statistics.median(abs(v - median) for v in region.values_hu)


def test_gradient_orientations_equal_a_naive_loop():
    region = simulated_region(3)
    ours, _ = extract_catalogue(region, only=["GOH"])
    angles = []
    for z, y, x in zip(*np.nonzero(region.mask), strict=True):
        f_y = (region.hu[z, y + 1, x] - region.hu[z, y - 1, x]) / (2 * 0.8)
        f_x = (region.hu[z, y, x + 1] - region.hu[z, y, x - 1]) / (2 * 0.7)
        if f_x or f_y:
            angle = math.degrees(math.atan(f_y / f_x)) if f_x else 90.0
            angles.append(float(angle + 180 if angle < 0 else angle))
    assert_class(ours, "GOH", naive_histogram_features(angles, low=0, width=1))


def test_worked_by_hand():
    """Two slices of 2 × 2 voxels at bins of 1 HU: levels 1 2 / 2 2 and 1 1 / 1 2."""
    hu = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 1]]], float)
    region = cut_region(hu, np.ones(hu.shape, bool), spacing_mm=(1, 1))
    ours, reasons = extract_catalogue(region, config=CatalogueConfig(bin_width=1, histogram=Histogram(0, 2, 1)))
    # along 0°: pairs (1, 2), (2, 2), (1, 1), (1, 2): p(1, 1) = p(2, 2) = p(1, 2) = p(2, 1) = 1/4
    assert ours["GLCM25D_0_1_Contrast"] == 0.5
    assert ours["GLCM25D_0_1_Entropy"] == 2.0
    assert ours["GLCM25D_0_1_Correlation"] == 0.0
    assert ours["GLCM25D_0_1_SumEntropy"] == 1.5
    assert ours["GLCM25D_0_1_SumVariance"] == (2 - 1.5) ** 2 / 4 + (3 - 1.5) ** 2 / 2 + (4 - 1.5) ** 2 / 4
    # across the slices: (1, 1), (2, 1), (2, 1), (2, 2)
    assert ours["GLCM3D_z+1y0x0_1_MaxProbability"] == 0.25
    # runs along 0°: 1, 2, 2 2, 1 1, 1, 2
    assert ours["GLRLM25D_0_RunPercentage"] == 6 / 8
    assert ours["GLRLM25D_0_LongRunEmphasis"] == (4 * 1 + 2 * 4) / 6
    # seven neighbours in space; level 1 has 3 others of its own, level 2 likewise: s = 4 · 4/7 each
    assert ours["NID3D_Coarseness"] == pytest.approx(1 / (4 / 7))
    assert ours["NID3D_Contrast"] == pytest.approx(4 / 7 * (2 * 0.5 * 0.5) / 4)
    assert ours["NID3D_Busyness"] == pytest.approx(4 / 7 / (2 * 0.5))
    assert ours["ID_GlobalVariance"] == pytest.approx(8 * 0.25 / 7)
    assert ours["ID_LocalEntropyMax"] == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    # half of the area lies in the first bin
    assert ours["IH_PercentileArea25"] == 0.5
    assert ours["IH_PercentileArea75"] == 1.5
    assert reasons["GLCM25D_0_4_Contrast"] == "the region holds no two voxels at this direction and offset"


def test_orientations_worked_by_hand():
    """HU rise by 3 per mm along y and by 3 per mm along −x: 90° and 180° − … are 135° everywhere."""
    y, x = np.mgrid[:6, :5]
    hu = (3.0 * y * 0.5 - 3.0 * x * 2.0)[None]
    region = cut_region(hu, np.ones(hu.shape, bool), spacing_mm=(0.5, 2.0))
    ours, _ = extract_catalogue(region, only=["GOH"])
    assert ours["GOH_Percentile50"] == pytest.approx(135)
    assert ours["GOH_PercentileArea50"] == pytest.approx(135.5)  # half of the bin from 135° to 136°
    assert ours["GOH_InterQuartileRange"] == pytest.approx(0, abs=1e-9)


def extract(hu: np.ndarray, mask: np.ndarray, **options):
    return extract_catalogue(cut_region(hu, mask, spacing_mm=(0.7, 0.7)), **options)


def test_regions_that_define_little_say_why():
    rng = np.random.default_rng(0)
    hu, mask = rng.normal(0, 100, (5, 20, 20)).round(), np.zeros((5, 20, 20), bool)
    mask[2, 3, 0] = True  # one voxel, at the border
    values, reasons = extract(hu, mask)
    assert values["ID_GlobalMean"] == hu[2, 3, 0]
    assert values["GLRLM25D_sum_RunPercentage"] == 1
    assert (
        reasons["ID_GlobalVariance"] == reasons["ID_Skewness"] == "all voxels of the region are alike to this feature"
    )
    assert reasons["GLCM3D_sum_1_Energy"] == reasons["NID3D_Coarseness"] == "the region lies in one slice"
    assert reasons["NID25D_Coarseness"] == "no voxel of the region has a neighbour in it"
    mask[2] = True  # a whole slice
    values, reasons = extract(hu, mask)
    assert {name.split("_")[0] for name in reasons} == {"GLCM3D", "NID3D"}
    mask[:] = True  # too thin for an offset of 7 across the slices
    values, reasons = extract(hu, mask)
    assert set(reasons.values()) == {"the region holds no two voxels at this direction and offset"}
    assert {tuple(name.split("_")[::2]) for name in reasons} == {("GLCM3D", "7")}
    assert "GLCM3D_sum_7_Energy" in reasons
    assert "GLCM3D_z0y0x+1_7_Energy" in values.keys() - reasons.keys()


def test_a_constant_region():
    values, reasons = extract(np.full((8, 12, 12), 40), np.ones((8, 12, 12), bool))
    assert values["GLCM3D_sum_7_Energy"] == values["GLCM25D_0_1_MaxProbability"] == 1
    assert values["ID_LocalEntropyMax"] == values["ID_GlobalEntropy"] == values["NID3D_Complexity"] == 0
    assert values["GLRLM25D_0_LongRunEmphasis"] == 144
    undefined = {name.rsplit("_", 1)[1] for name in reasons if not name.startswith("GOH")}
    assert undefined == {
        *("Correlation", "InformationMeasureCorr1"),
        *("Skewness", "Kurtosis"),
        *("Coarseness", "Busyness", "TextureStrength"),
    }
    assert {reason for name, reason in reasons.items() if name.startswith("GOH")} == {
        "the image does not rise anywhere in the region"
    }


def test_thousands_of_grey_levels():
    rng = np.random.default_rng(0)
    hu = rng.permutation(5000 * 4)[: 20 * 20 * 25].reshape(25, 20, 20) % 5000
    values, reasons = extract(hu, np.ones(hu.shape, bool), config=CatalogueConfig(bin_width=1))
    assert values["ID_Range"] > 4900
    assert not reasons


def test_a_voxel_without_neighbours_is_left_out_of_the_differences():
    """As PyRadiomics' documentation and IBSI have it; its code counts such a voxel."""
    region = simulated_region(0)
    mask = region.mask.copy()
    assert not mask[0].any() or not mask[0, :3, :3].any()
    mask[0, 0, 0] = True
    lone, _ = extract(region.hu, mask, only=["NID25D"])
    assert lone == extract(region.hu, region.mask, only=["NID25D"])[0]


@pytest.mark.parametrize(
    ("hu", "mask", "message"),
    [
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 3), bool), "is empty"),
        (np.zeros((2, 3, 3)), np.ones((2, 3, 4), bool), "one shape"),
        (np.full((2, 3, 3), np.nan), np.ones((2, 3, 3), bool), "not finite"),
        (np.linspace(0, 1e9, 18).reshape(2, 3, 3), np.ones((2, 3, 3), bool), "bins of 25 HU"),
    ],
)
def test_what_cannot_be_measured_is_refused(hu, mask, message):
    with pytest.raises(ValueError, match=message):
        extract(hu, mask)


def test_values_outside_the_region_do_not_matter():
    """The gradients across its edge apart, and those do not spread what is not finite."""
    region = simulated_region(7)
    hole = np.where(region.mask, region.hu, np.nan)
    inside = [name for name in feature_names() if not name.startswith("GOH")]
    values, reasons = extract(region.hu, region.mask, only=inside)
    assert extract(hole, region.mask, only=inside)[0] == pytest.approx(values, nan_ok=True)
    assert not {name for name in reasons if not name.startswith("GLCM3D")}
    assert np.isfinite(list(extract(hole, region.mask, only=["GOH"])[0].values())).all()


def test_some_features_are_those_of_all_in_the_same_order():
    region = simulated_region(0)
    everything, reasons = extract_catalogue(region)
    assert tuple(everything) == feature_names()
    some = ["NID3D", "ID_LocalStdMax", "ID_Percentile05", "GLCM3D_sum_4_Energy", "GLCM25D_90_1_Contrast"]
    values, some_reasons = extract_catalogue(region, only=some)
    assert tuple(values) == feature_names(some)
    assert tuple(values)[:2] == ("GLCM25D_90_1_Contrast", "GLCM3D_sum_4_Energy")
    assert len(values) == 4 + 5
    assert values == pytest.approx({name: everything[name] for name in values}, nan_ok=True)
    assert some_reasons == {name: reason for name, reason in reasons.items() if name in values}


def test_an_unknown_class():
    with pytest.raises(ValueError, match="no feature or class of features 'SHAPE'"):
        extract(np.zeros((1, 4, 4)), np.ones((1, 4, 4), bool), only=["SHAPE"])


@pytest.fixture(scope="module")
def ibsi_phantom() -> Region:
    hu = np.array(IBSI_PHANTOM, float)
    return cut_region(hu, hu > 0, spacing_mm=(2, 2))


def assert_ibsi(values: dict[str, float], published: dict[str, float]) -> None:
    """Equal in the three significant digits that are printed."""
    assert values.keys() <= published.keys()
    assert values == pytest.approx({key: published[key] for key in values}, rel=5e-3)


def test_ibsi_co_occurrences(ibsi_phantom):
    """Directions averaged (JJUI, ITBB) and merged (ZW7Z, IAZD)."""
    ours, _ = extract_catalogue(ibsi_phantom, config=CatalogueConfig(bin_width=1), only=["GLCM25D", "GLCM3D"])
    for prefix, directions, averaged, merged in (
        ("GLCM25D", DIRECTIONS_2D, "JJUI", "ZW7Z"),
        ("GLCM3D", DIRECTIONS_3D, "ITBB", "IAZD"),
    ):
        features = {name: feature.ibsi for name, feature in cooccurrence.FEATURES.items() if feature.ibsi}
        assert len(features) == 21
        means = {i: np.mean([ours[f"{prefix}_{d}_1_{name}"] for d in directions]) for name, i in features.items()}
        assert_ibsi(means, {key: values[averaged] for key, values in IBSI["glcm"].items()})
        sums = {i: ours[f"{prefix}_sum_1_{name}"] for name, i in features.items()}
        assert_ibsi(sums, {key: values[merged] for key, values in IBSI["glcm"].items()})


def test_ibsi_run_lengths(ibsi_phantom):
    """The same, along the 4 and the 13 directions of IBSI; the catalogue has two of them."""
    levels = ibsi_phantom.discretise(1)
    for directions, averaged, merged in ((DIRECTIONS_2D, "JJUI", "ZW7Z"), (DIRECTIONS_3D, "ITBB", "IAZD")):
        matrices = count_runs(levels, [*([shift] for shift in directions.values()), list(directions.values())])
        values = {feature.ibsi: feature.compute(matrices) for feature in run_length.FEATURES.values()}
        assert len(values) == 11
        means = {key: value[:-1].mean() for key, value in values.items()}
        assert_ibsi(means, {key: published[averaged] for key, published in IBSI["glrlm"].items()})
        sums = {key: value[-1] for key, value in values.items()}
        assert_ibsi(sums, {key: published[merged] for key, published in IBSI["glrlm"].items()})


def test_ibsi_neighbour_differences_and_statistics(ibsi_phantom):
    ours, _ = extract_catalogue(ibsi_phantom, config=CatalogueConfig(bin_width=1))
    for prefix, method in (("NID25D", "62GR"), ("NID3D", "KOBO")):
        values = {f.ibsi: ours[f"{prefix}_{n}"] for n, f in neighbour_difference.FEATURES.items() if f.ibsi}
        assert_ibsi(values, {key: published[method] for key, published in IBSI["ngtdm"].items()})
    values = {feature.ibsi: ours[f"ID_{name}"] for name, feature in intensity.FEATURES.items() if feature.ibsi}
    values |= {"QG58": ours["ID_Percentile10"], "8DWT": ours["ID_Percentile90"]}
    assert_ibsi(values, IBSI["statistics"])
    assert len(values) == 14


def test_every_feature_with_an_ibsi_id_has_a_published_value():
    published = {key for name in ("statistics", "glcm", "glrlm", "ngtdm") for key in IBSI[name]}
    assert set(ibsi_ids().values()) <= published
    assert len(ibsi_ids()) == 21 * (15 + 42) + 11 * 3 + 2 * 2 + 14
