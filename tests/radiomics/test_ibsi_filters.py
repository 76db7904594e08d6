"""The filters of IBSI 2: known responses, no dependence on direction or box, and reference values of the CT phantom (phase 2)."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ibsi_reference import Reference, assert_reached, read_ct_phantom, write_reached

from ltdiff.radiomics.config import FilterConfig, IbsiConfig
from ltdiff.radiomics.ibsi import extract_ibsi
from ltdiff.radiomics.ibsi_chain import process_region
from ltdiff.radiomics.image_filter import filter_image

TABLES = Path(__file__).parents[2] / "build" / "ibsi"
FILTERS = {
    1: FilterConfig(),
    2: FilterConfig("mean"),
    3: FilterConfig("log"),
    4: FilterConfig("laws"),
    5: FilterConfig("gabor"),
    6: FilterConfig("wavelet"),
    7: FilterConfig("wavelet", wavelet_response="HHH", level=2),
    8: FilterConfig("simoncelli"),
    9: FilterConfig("simoncelli", level=2),
}
"""By the number of IBSI 2's configurations; A is in the plane, B in space with voxels of 1 mm."""
KINDS = ("mean", "log", "laws", "gabor", "wavelet", "simoncelli")
SMALL = {"gabor_sigma_mm": 2.0, "laws_distance": 2}


def small(kind: str, **settings) -> FilterConfig:
    return FilterConfig(kind, **(SMALL | settings))


@pytest.mark.parametrize("letter", ["A", "B"])
@pytest.mark.parametrize("number", FILTERS)
def test_reference_values(real_data, number, letter):
    hu, mask, spacing_mm = read_ct_phantom(real_data)
    config = IbsiConfig(lowest_hu=-1000, highest_hu=400, filter=FILTERS[number])
    if letter == "A":
        response = {"wavelet_response": {6: "LHL", 7: "HHH"}[number]} if number in (6, 7) else {}
        config = replace(config, filter=replace(config.filter, within="plane", **response))
    else:
        config = replace(config, spacing_mm=1, interpolation="cubic")
    values, _ = extract_ibsi(process_region(hu, mask, spacing_mm=spacing_mm, config=config), only=["stat"])
    references, without = read_filter_values(real_data / "ibsi" / "ibsi_2_reference_values.csv", f"{number}.{letter}")
    assert len(references) + len(without) == 18
    assert without == (["stat_qcod"] if (number, letter) == (8, "B") else [])
    write_reached(TABLES / f"filter_{number}{letter}.csv", references, values, unstandardised=without)
    assert_reached(references, values)


def read_filter_values(path: Path, filter_id: str) -> tuple[list[Reference], list[str]]:
    """The values of a configuration of IBSI 2, and the tags for which there is no consensus."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file, delimiter=";") if row["filter_id"] == filter_id]
    found = [
        Reference(row["feature_tag"], "", float(row["consensus_value"]), float(row["tolerance"]))
        for row in rows
        if row["consensus_value"]
    ]
    return found, [row["feature_tag"] for row in rows if not row["consensus_value"]]


@pytest.mark.parametrize("within", ["space", "plane"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_image_has_the_turned_response(kind, within):
    image = np.random.default_rng(2).normal(size=(15, 15, 15))
    config = small(kind, within=within)
    response = filter_image(image, config, spacing_mm=(1, 1, 1))
    for axes in ((1, 2), (0, 1)) if within == "space" else ((1, 2),):
        turned = filter_image(np.rot90(image, axes=axes), config, spacing_mm=(1, 1, 1))
        np.testing.assert_allclose(turned, np.rot90(response, axes=axes), atol=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "simoncelli"])
def test_the_box_round_a_region_is_large_enough(kind):
    hu = np.random.default_rng(4).normal(size=(50, 60, 60)) * 100
    mask = np.zeros(hu.shape, dtype=bool)
    mask[24:26, 28:31, 29:33] = True
    spacing_mm, config = (1.0, 0.8, 0.8), IbsiConfig(lowest_hu=None, filter=small(kind))
    region = process_region(hu, mask, spacing_mm=spacing_mm, config=config)
    assert region.image.size < hu.size / 2
    whole = filter_image(hu, config.filter, spacing_mm=spacing_mm)
    np.testing.assert_allclose(region.values, whole[mask], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_has_a_response_to_the_mean_alone(kind):
    response = filter_image(np.full((9, 20, 20), 7.0), small(kind), spacing_mm=(1, 1, 1))
    np.testing.assert_allclose(response, 7 if kind == "mean" else 0, atol=0.01)


def test_the_laplacian_of_a_paraboloid():
    z, y, x = np.indices((30, 40, 40)) * np.reshape((2.0, 1, 1), (3, 1, 1, 1))
    image = z**2 + 3 * y**2 + x**2 / 2
    response = filter_image(image, FilterConfig("log", log_sigma_mm=3), spacing_mm=(2, 1, 1))
    assert response[15, 20, 20] == pytest.approx(2 + 6 + 1, rel=0.05)  # the kernel ends at 4 σ
    in_plane = filter_image(image, FilterConfig("log", log_sigma_mm=3, within="plane"), spacing_mm=(2, 1, 1))
    assert in_plane[15, 20, 20] == pytest.approx(6 + 1, rel=0.05)


def test_gabor_filters_answer_to_their_wavelength():
    x = np.arange(60)
    config = FilterConfig("gabor", within="plane", gabor_sigma_mm=4, gabor_wavelength_mm=5, gabor_angles=4)
    means = {
        wavelength: filter_image(np.tile(np.cos(2 * np.pi * x / wavelength), (1, 60, 1)), config, spacing_mm=(1, 1, 1))[0, 30, 30]
        for wavelength in (3, 5, 10)
    }
    area = 2 * np.pi * 4 * 4 / 1.5  # of the envelope; a cosine is half a wave, and one direction of four answers
    assert means[5] == pytest.approx(area / 2 / 4, rel=0.05)
    assert max(means[3], means[10]) < 0.1 * means[5]


def test_levels_of_a_radial_wavelet_answer_to_their_octave():
    x = np.arange(128)
    for level, wavelength in ((1, 4), (2, 8), (3, 16)):
        wave = np.tile(np.cos(2 * np.pi * x / wavelength), (1, 128, 1))
        response = filter_image(wave, FilterConfig("simoncelli", within="plane", level=level), spacing_mm=(1, 1, 1))
        assert abs(response - wave).max() < 0.1
        other = filter_image(wave, FilterConfig("simoncelli", within="plane", level=level + 2), spacing_mm=(1, 1, 1))
        assert abs(other).max() < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 4}, "size must be odd, got 4"),
        ({"level": 0}, "level must be above 0"),
        ({"laws_kernels": "L5E5"}, "laws_kernels must be three"),
        ({"wavelet_response": "LX"}, "wavelet_response must be three"),
        ({"wavelet": "db39"}, "wavelet must be haar"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FilterConfig(**settings)
