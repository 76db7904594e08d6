"""Every reference value of IBSI 1 with a consensus: of the digital phantom, and of the CT phantom in configurations A to E."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ibsi_reference import (
    CONFIGURATIONS,
    DIGITAL_PHANTOM,
    DIGITAL_PHANTOM_MASK,
    DIGITAL_PHANTOM_MM,
    assert_reached,
    read_ct_phantom,
    read_digital_phantom_values,
    read_unstandardised,
    read_values,
    write_reached,
)

from ltdiff.radiomics.config import IBSI_CONFIGURATIONS, IbsiConfig
from ltdiff.radiomics.ibsi import CLASSES, extract_ibsi, feature_names
from ltdiff.radiomics.ibsi_chain import ProcessedRegion, process_region
from ltdiff.radiomics.region import find_box
from ltdiff.radiomics.resampling import Resampling

TABLES = Path(__file__).parents[2] / "build" / "ibsi"
"""Where the run says which values are reached."""
NUM_VALUES = {"A": 346, "B": 346, "C": 210, "D": 210, "E": 210}


@pytest.fixture(scope="module")
def digital_phantom_values() -> dict[str, float]:
    region = process_region(
        DIGITAL_PHANTOM, DIGITAL_PHANTOM_MASK, spacing_mm=DIGITAL_PHANTOM_MM, config=IBSI_CONFIGURATIONS["digital_phantom"]
    )
    return extract_ibsi(region)[0]


@pytest.mark.parametrize("name", CLASSES)
def test_digital_phantom(digital_phantom_values, name):
    references = [one for one in read_digital_phantom_values() if one.tag.startswith(f"{name}_")]
    assert_reached(references, digital_phantom_values)


def test_every_feature_has_a_reference_value():
    assert {one.tag for one in read_digital_phantom_values()} == set(feature_names())


@pytest.fixture(scope="module")
def ct_phantom(real_data) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    return read_ct_phantom(real_data)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(ct_phantom, real_data, name):
    hu, mask, spacing_mm = ct_phantom
    values, _ = extract_ibsi(process_region(hu, mask, spacing_mm=spacing_mm, config=CONFIGURATIONS[name]))
    table = real_data / "ibsi" / f"ibsi_1_reference_values_config_{name}.csv"
    references = list(read_values(table, diagnostics=False))
    assert len(references) == NUM_VALUES[name]
    write_reached(TABLES / f"configuration_{name}.csv", references, values, unstandardised=read_unstandardised(table))
    assert_reached(references, values)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_image_processing_of_a_configuration(ct_phantom, real_data, name):
    values = diagnose(*ct_phantom, CONFIGURATIONS[name])
    table = real_data / "ibsi" / f"ibsi_1_reference_values_config_{name}.csv"
    references = list(read_values(table, diagnostics=True))
    assert len(references) == 60
    write_reached(TABLES / f"diagnostics_{name}.csv", references, values, unstandardised=[])
    assert_reached(references, values)


def diagnose(hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float], config: IbsiConfig) -> dict[str, float]:
    """IBSI's diagnostic values of the image and the region before and after resampling and resegmentation, by tag."""
    whole = replace(config, lowest_hu=None, highest_hu=None, outlier_sigma=None)
    initial = process_region(hu, mask, spacing_mm=spacing_mm, config=replace(whole, spacing_mm=None))
    interpolated = process_region(hu, mask, spacing_mm=spacing_mm, config=whole)
    resegmented = process_region(hu, mask, spacing_mm=spacing_mm, config=config)
    resampling = Resampling(hu.shape, spacing_mm, interpolated.spacing_mm)
    everywhere = tuple(slice(0, n) for n in resampling.new_shape)
    image = np.rint(resampling.resample(hu, everywhere, interpolation=config.interpolation))
    return (
        describe_image("init_img", hu, spacing_mm)
        | describe_image("interp_img", image, interpolated.spacing_mm)
        | describe_region("init_roi", initial, hu.shape)
        | describe_region("interp_roi", interpolated, image.shape)
        | describe_region("reseg_roi", resegmented, image.shape)
    )


def describe_image(stage: str, hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    sizes = {f"img_dim_{axis}_{stage}": n for axis, n in zip("zyx", hu.shape, strict=True)}
    sizes |= {f"vox_dim_{axis}_{stage}": mm for axis, mm in zip("zyx", spacing_mm, strict=True)}
    return sizes | {f"mean_int_{stage}": hu.mean(), f"min_int_{stage}": hu.min(), f"max_int_{stage}": hu.max()}


def describe_region(stage: str, region: ProcessedRegion, shape: tuple[int, ...]) -> dict[str, float]:
    found = {f"int_mask_dim_{axis}_{stage}": n for axis, n in zip("zyx", shape, strict=True)}
    for name, mask in (("int", region.intensity_mask), ("morph", region.shape_mask)):
        sides = [part.stop - part.start for part in find_box(mask)]
        found |= {f"{name}_mask_bb_dim_{axis}_{stage}": n for axis, n in zip("zyx", sides, strict=True)}
        found[f"{name}_mask_vox_count_{stage}"] = int(mask.sum())
    low, mean, high = region.values.min(), region.values.mean(), region.values.max()
    return found | {f"int_mask_min_int_{stage}": low, f"int_mask_mean_int_{stage}": mean, f"int_mask_max_int_{stage}": high}
