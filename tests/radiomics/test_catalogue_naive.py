"""Every feature that PyRadiomics and IBSI lack equals a naive loop, and some a computation by hand."""

import itertools
import math
import statistics
from collections import Counter

import numpy as np
import pytest
from simulated_region import simulated_region

from ltdiff.radiomics.catalogue import extract_catalogue
from ltdiff.radiomics.config import CatalogueConfig
from ltdiff.radiomics.histogram import Histogram
from ltdiff.radiomics.region import DIRECTIONS_2D, DIRECTIONS_3D, cut_region


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
            expected = naive_sum_variance(pooled) if is_across else math.nan  # see the test of regions that are too thin
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
        around = [levels[o] for o in others if all(0 <= p < m for p, m in zip(o, levels.shape, strict=True)) and levels[o]]
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
