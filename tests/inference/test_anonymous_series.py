"""Series for a program that is not ours: all of the image, nothing of the patient, and no sign of what made it."""

import numpy as np
import pydicom
from dicom_files import find_conformance_errors, phantom_hu

from ltdiff.dicom.series import find_series
from ltdiff.inference.anonymous_series import write_anonymous_series


def test_the_image_comes_back_and_the_header_says_little(tmp_path):
    hu = phantom_hu().astype(np.float32)
    write_anonymous_series(hu, out_dir=tmp_path / "a", key="k", spacing_mm=(2.5, 0.8, 0.7), slice_thickness_mm=3.0)
    ((series,), issues) = find_series(tmp_path / "a")
    assert issues == []
    np.testing.assert_array_equal(series.read_hu(), np.clip(np.round(hu), -1024, 3071))
    assert (series.slice_spacing_mm, series.spacing_mm, series.slice_thickness_mm) == (2.5, (0.8, 0.7), 3.0)
    assert series.kernel == ""
    first = pydicom.dcmread(series.path)
    assert first.PatientID == "anonymous"
    assert "not for diagnostic use" in first.SeriesDescription
    assert find_conformance_errors(series.path) == []


def test_two_images_differ_in_pixels_and_uids_alone(tmp_path):
    hu = phantom_hu().astype(np.float32)
    for name, image in (("a", hu), ("b", hu + 10)):
        write_anonymous_series(image, out_dir=tmp_path / name, key=name, spacing_mm=(2.5, 0.8, 0.7), slice_thickness_mm=3.0)
    for path in sorted((tmp_path / "a").iterdir()):
        one, other = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "b" / path.name)
        differing = {element.keyword for element in one if element != other[element.tag]}
        assert differing == {
            "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PixelData",
        }  # fmt: skip
