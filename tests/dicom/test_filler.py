"""Filler is found by what the image shows, and a tag that names a value of tissue takes none of it away."""

import numpy as np
import pytest
from dicom_files import set_stored
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltdiff.dicom.filler import find_filler
from ltdiff.dicom.pixels import read_slice_hu, read_stored_slice
from ltdiff.dicom.scan import AIR_FILL_HU

SIZE = 64
y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
AREAS = {  # where a scanner or a converter may have filled a slice
    "outside a circle": x**2 + y**2 > 1,
    "left and right": abs(x) > 0.8,
    "in the middle of an edge": (y < -0.7) & (abs(x) < 0.5),
    "one row": y < y[1, 0],
    "a removed face": (abs(x) < 0.25) & (abs(y + 0.4) < 0.2),
    "all but a circle": x**2 + y**2 > 0.2,
    "one corner": (x > 0.6) & (y > 0.6),
}
values = st.sampled_from([-3024, -2048, -2000, -1800, -32_768])


def tissue(seed, *, noise_hu=12.0):
    """A body of 40 HU in air with noise, whole numbers."""
    hu = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40, -1000) + np.random.default_rng(seed).normal(0, noise_hu, x.shape)
    return np.round(hu).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), area=st.sampled_from(sorted(AREAS)), value=values, noise_hu=st.floats(0, 90))
def test_an_area_of_one_value_is_filler_wherever_it_lies(seed, area, value, noise_hu):
    hu = tissue(seed, noise_hu=noise_hu)
    hu[AREAS[area]] = value
    np.testing.assert_array_equal(find_filler(hu), AREAS[area])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), first=values, second=values, border=st.floats(1.05, 1.8))
def test_two_values_are_filler(seed, first, second, border):
    hu = tissue(seed)
    hu[AREAS["outside a circle"]] = first
    hu[x**2 + y**2 > border] = second
    np.testing.assert_array_equal(find_filler(hu), AREAS["outside a circle"])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), noise_hu=st.floats(0, 150), streak=st.floats(-900, 0))
@example(seed=91, noise_hu=132.0, streak=-374.5)  # five pixels, of which three have two values
def test_noise_and_streaks_are_no_filler(seed, noise_hu, streak):
    hu = tissue(seed, noise_hu=noise_hu)
    hu[30:33] += np.random.default_rng(seed).normal(streak, 60, (3, SIZE)).astype(np.float32)
    assert not find_filler(hu).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), value=st.integers(-80, 120), noise_hu=st.floats(2, 40))
def test_a_tag_takes_no_tissue_away(seed, value, noise_hu):
    hu = tissue(seed, noise_hu=noise_hu)
    assert not find_filler(hu, tagged=hu == value).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), value=st.integers(-800, 3071), noise_hu=st.floats(4, 40))
def test_an_area_that_the_tag_names_is_filler_and_tissue_of_its_value_is_not(seed, value, noise_hu):
    hu = tissue(seed, noise_hu=noise_hu)
    outside = AREAS["outside a circle"]
    hu[outside] = value
    filler = find_filler(hu, tagged=hu == value)
    assert filler[outside].mean() > 0.98
    assert filler[~outside].mean() < 0.005


def test_a_blurred_filler_is_filler_in_derived_images_and_in_resampled_ones():
    hu = tissue(0)
    outside = AREAS["outside a circle"]
    hu[outside] = -2000 + np.random.default_rng(0).normal(0, 30, np.count_nonzero(outside))
    assert find_filler(hu, derived=True)[outside].all()
    hu[outside] = -2000
    half = (hu + np.roll(hu, 1, axis=1)) / 2
    assert (find_filler(half)[outside & np.roll(outside, 1, axis=1)]).all()


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_padding_value_that_tissue_has_is_kept_there(one_slice, is_signed):
    """Signed HU with PixelPaddingValue 0, as some exporters leave it."""
    hu = tissue(0, noise_hu=25)
    stored = hu.astype(np.int16) if is_signed else (hu + 1100).astype(np.uint16)
    elements = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": int(is_signed)}
    padding = 0 if is_signed else 1100
    set_stored(one_slice, stored, RescaleIntercept=-padding, PixelPaddingValue=padding, **elements)
    assert (hu == 0).any()
    np.testing.assert_array_equal(read_slice_hu(one_slice), hu)
    assert not read_stored_slice(one_slice).padding.any()


def test_bone_that_is_as_bright_as_the_padding_stays(one_slice):
    """4095, the largest of 12 bits: outside the field of view it is padding, in metal it is not."""
    stored = (tissue(0) + 1024).astype(np.uint16)
    stored[:4], stored[30:34, 30:34] = 4095, 4095
    set_stored(one_slice, stored, PixelPaddingValue=4095)
    hu = read_slice_hu(one_slice)
    assert (hu[:4] == AIR_FILL_HU).all()
    assert (hu[30:34, 30:34] == 3071).all()
