"""IBSI's published values of its digital phantom, for every feature with an id."""

import json
from pathlib import Path

import numpy as np
import pytest

from ltdiff.radiomics import cooccurrence, intensity_direct, neighbour_difference, run_length
from ltdiff.radiomics.catalogue import extract_catalogue, ibsi_ids
from ltdiff.radiomics.config import CatalogueConfig
from ltdiff.radiomics.region import DIRECTIONS_2D, DIRECTIONS_3D, Region, cut_region

IBSI = json.loads((Path(__file__).parent / "ibsi_digital_phantom.json").read_text())
IBSI_PHANTOM = [  # 0 is outside the region
    [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
    [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
    [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
]


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
        matrices = run_length.count_runs(levels, [*([shift] for shift in directions.values()), list(directions.values())])
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
    values = {feature.ibsi: ours[f"ID_{name}"] for name, feature in intensity_direct.FEATURES.items() if feature.ibsi}
    values |= {"QG58": ours["ID_Percentile10"], "8DWT": ours["ID_Percentile90"]}
    assert_ibsi(values, IBSI["statistics"])
    assert len(values) == 14


def test_every_feature_with_an_ibsi_id_has_a_published_value():
    published = {key for name in ("statistics", "glcm", "glrlm", "ngtdm") for key in IBSI[name]}
    assert set(ibsi_ids().values()) <= published
    assert len(ibsi_ids()) == 21 * (15 + 42) + 11 * 3 + 2 * 2 + 14
