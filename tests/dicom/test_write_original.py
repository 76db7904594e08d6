"""A volume written as an original CT series."""

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SPACING_MM, identity, phantom_hu

from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_original import write_ct_series


def test_what_is_written_is_read_back(write_series):
    (series,), issues = find_series(write_series(kernel="Bl64", kvp=100.0))
    assert issues == []
    assert (series.kernel, series.num_slices) == ("Bl64", NUM_SLICES)
    assert series.slice_spacing_mm == pytest.approx(SPACING_MM[0])
    np.testing.assert_array_equal(np.stack([read_slice_hu(one.path) for one in series.slices]), phantom_hu())


def test_hu_are_clipped_to_twelve_bits(write_series):
    hu = phantom_hu()
    hu[0, 0, :3] = [-3000, 5000, 40.4]
    read = read_slice_hu(write_series(hu=hu) / "slice_0001.dcm")
    assert read[0, :3].tolist() == [-1024, 3071, 40]


def test_every_slice_conforms(write_series, conformance_errors):
    for path in write_series().iterdir():
        assert conformance_errors(path) == []


def test_it_says_that_it_is_original(one_slice):
    dataset = pydicom.dcmread(one_slice)
    assert dataset.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert dataset.Exposure == 90


@pytest.mark.parametrize("hu", [np.zeros((4, 4)), np.full((1, 4, 4), np.nan)])
def test_bad_hu_fail_and_leave_nothing(tmp_path, hu):
    with pytest.raises(ValueError, match="finite HU"):
        write_ct_series(hu, out_dir=tmp_path / "a", identity=identity(), spacing_mm=SPACING_MM)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(write_series):
    write_series()
    with pytest.raises(ValueError, match="exists already"):
        write_series()
