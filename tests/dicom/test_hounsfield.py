"""Values that are no Hounsfield units are refused or named; whatever a CT may show is not."""

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, edit, set_stored
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.filler import find_filler
from ltdiff.dicom.hounsfield import ScanCheck, check_slice
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.series import find_series

SIZE = 96
y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
OUTSIDE = x**2 + y**2 > 1


def body(*, num_slices, width, lung_hu, fat_hu, bone_hu, noise_hu, seed):
    """A body with lungs, fat and spine in air, which changes from slice to slice: (Z, Y, X)."""
    rng = np.random.default_rng(seed)
    hu = np.full((num_slices, SIZE, SIZE), -1000.0)
    for index, image in enumerate(hu):
        grown = width * (1 + 0.03 * np.sin(index))
        image[(x / grown) ** 2 + (y / (0.8 * grown)) ** 2 < 1] = fat_hu
        image[(x / grown) ** 2 + (y / (0.8 * grown)) ** 2 < 0.8] = 50
        for side in (-1, 1):
            image[((x - side * 0.45 * grown) / (0.3 * grown)) ** 2 + (y / (0.5 * grown)) ** 2 < 1] = lung_hu
        image[(x / (0.1 * grown)) ** 2 + ((y - 0.55 * grown) / (0.1 * grown)) ** 2 < 1] = bone_hu
    return (hu + rng.normal(0, noise_hu, hu.shape)).astype(np.float32)


bodies = st.builds(
    body,
    num_slices=st.integers(4, 7),
    width=st.floats(0.45, 0.95),
    lung_hu=st.floats(-930, -650),
    fat_hu=st.floats(-120, -70),
    bone_hu=st.floats(150, 1500),
    noise_hu=st.floats(1, 90),
    seed=st.integers(0, 99),
)
fillers = st.sampled_from([None, (-2000.0,), (-2048.0,), (-3024.0,), (-3024.0, -2000.0)])
offsets = st.sampled_from([1024.0, 1000.0, -1024.0, -1000.0])


def filled(hu, filler):
    """As a scanner fills what lies outside the round field of view: with one value, or with two."""
    if filler is not None:
        hu = np.where(OUTSIDE, np.float32(filler[0]), hu)
        hu[:, x**2 + y**2 > 1.7] = filler[-1]
    return hu


def judge(hu):
    """Of a scan (Z, Y, X): "refused", what is unusual about it, or ""."""
    check = ScanCheck()
    try:
        for index, image in enumerate(hu):
            filler = find_filler(image)
            check.add(index, np.where(filler, np.float32(-1024), image), filler, check_slice(image, filler))
        return check.finish()
    except BadFile:
        return "refused"


@settings(max_examples=40, deadline=None)
@given(hu=bodies, filler=fillers, lowest=st.sampled_from([-10_000, -1024, -1000]))
def test_a_scan_is_let_through(hu, filler, lowest):
    assert judge(filled(np.maximum(hu, lowest), filler)) == ""


@settings(max_examples=40, deadline=None)
@given(hu=bodies, filler=fillers, offset=offsets)
def test_another_intercept_of_all_slices_is_refused(hu, filler, offset):
    assert judge(filled(hu, filler) + np.float32(offset)) == "refused"


@settings(max_examples=40, deadline=None)
@given(hu=bodies, filler=fillers, offset=offsets, data=st.data())
def test_another_intercept_of_some_slices_is_refused(hu, filler, offset, data):
    hu = filled(hu, filler)
    first = data.draw(st.integers(0, len(hu) - 1))
    last = data.draw(st.integers(first, len(hu) - 1 - (first == 0)))
    hu[first : last + 1] += np.float32(offset)
    assert judge(hu) == "refused"


def cylinder(value, *, radius=0.5, num_slices=4, surrounding=-1000.0, noise_hu=10.0):
    hu = np.full((num_slices, SIZE, SIZE), surrounding)
    hu[:, x**2 + y**2 < radius**2] = value
    return (hu + np.random.default_rng(0).normal(0, noise_hu, hu.shape)).astype(np.float32)


AIR, INSIDE = cylinder(-1000), cylinder(0, surrounding=0)


@pytest.mark.parametrize(
    ("hu", "sentence"),
    [
        (cylinder(0), ""),
        (cylinder(0, noise_hu=0), ""),
        (np.concatenate([AIR, cylinder(0), AIR]), ""),  # a phantom from end to end
        (np.concatenate([AIR, INSIDE, AIR]), ""),  # the same in a small field of view: air gives way to water everywhere
        (np.concatenate([AIR, INSIDE[:1], AIR]), ""),
        (np.concatenate([cylinder(-860, surrounding=-860), INSIDE]), ""),  # the inside of a lung, then of the liver
        (INSIDE, "no value is below -500 (the lowest is"),
        (cylinder(990), "0.0% of the values lie from -300 to 300 HU"),  # Teflon alone
        (cylinder(-700), "of the values lie from -300 to 300 HU"),  # foam
        (AIR, "of the values lie from -300 to 300 HU"),
        (np.full((2, SIZE, SIZE), -2000, np.float32), "there is no value but filler"),
    ],
)
def test_what_is_seldom_is_named_and_not_refused(hu, sentence):
    assert judge(hu).startswith(sentence) if sentence[:1] in ("", "n", "t") else sentence in judge(hu)


def test_metal_is_let_through():
    hu = cylinder(40)
    hu[:, 40:48, 40:48] = 12_000
    hu[:, 44:46] -= 700  # dark streaks
    assert judge(hu) == ""


@pytest.mark.parametrize("odd", [{0, 1, 2, 3, 4}, {0}, {2}, {4}, {1, 2}])
def test_a_series_without_its_intercept_is_refused_by_whatever_reads_it(write_series, odd):
    folder = write_series(hu=cylinder(40, num_slices=NUM_SLICES).round())
    paths = sorted(folder.iterdir())
    for index in odd:
        edit(paths[index], RescaleIntercept=0)
    (series,), issues = find_series(folder)
    assert issues == []
    for read in (series.check_values, lambda: list(series.read_slices()), series.read_volume):
        with pytest.raises(ValueError, match=r"slice_000\d\.dcm .*intercept"):
            read()
    for index in odd:
        with pytest.raises(ValueError, match=r"none below -500 HU.*intercept was lost"):
            read_slice_hu(paths[index])


def test_of_a_long_series_the_slices_with_another_intercept_are_looked_at(write_series):
    folder = write_series(hu=cylinder(40, num_slices=40).round())
    edit(folder / "slice_0014.dcm", RescaleIntercept=0)
    (series,), _ = find_series(folder)
    with pytest.raises(ValueError, match=r"slice_001[45]\.dcm .*intercept"):
        series.check_values()


def test_intercepts_that_belong_to_their_slices_are_let_through(write_series, caplog):
    hu = np.maximum(cylinder(40, num_slices=NUM_SLICES).round(), -1024)
    folder = write_series(hu=hu)
    set_stored(folder / "slice_0003.dcm", (hu[2] + 2000).astype(np.uint16), RescaleIntercept=-2000)
    (series,), _ = find_series(folder)
    series.check_values()
    np.testing.assert_array_equal(series.read_volume().hu, hu)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"RescaleType": "MGML"}, "has RescaleType MGML: its values are not Hounsfield units"),
        ({"RescaleType": "HU_MOD"}, "has RescaleType HU_MOD"),
        ({"RescaleType": "US"}, "has RescaleType US"),
        ({"RescaleType": "Z_EFF"}, "has RescaleType Z_EFF"),
        ({"RescaleType": "ED"}, "has RescaleType ED"),
        ({"RescaleType": "Doe^John"}, "has a RescaleType other than HU"),
        ({"RescaleType": ["HU", "HU"]}, "has a RescaleType other than HU"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"]}, "has MAT_SPECIFIC in its ImageType"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 DE IODINE"]}, "has IODINE in its ImageType"),
        ({"ImageType": ["DERIVED", "PRIMARY", "ELECTRON DENSITY"]}, "has ELECTRON_DENSITY in its ImageType"),
        ({"ImageType": ["DERIVED", "SECONDARY", "Z EFF"]}, "has Z_EFF in its ImageType"),
    ],
)
def test_a_series_that_says_that_it_is_in_another_unit_is_refused(write_series, elements, sentence):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, **elements)
    series, (issue,) = find_series(folder)
    assert (series, issue.action) == ([], "fail")
    assert sentence in issue.reason
    assert "Doe" not in issue.reason


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleType": None},
        {"RescaleType": ""},
        {"RescaleType": "HU "},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "IODINE REMOVED"]},
    ],
)
def test_other_series_are_in_hu(write_series, elements):
    folder = write_series()
    for path in folder.iterdir():
        edit(path, **elements)
    assert find_series(folder)[1] == []


def test_a_lookup_table_is_refused(one_slice):
    def add(dataset):
        item = pydicom.Dataset()
        item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [4, 0, 16], "HU", b"\0" * 8
        dataset.ModalityLUTSequence = [item]

    edit(one_slice, add)
    with pytest.raises(BadFile, match="ModalityLUTSequence"):
        read_slice_hu(one_slice)
