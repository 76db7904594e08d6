import pydicom
import pytest
from dicom_files import bundled
from pydicom.encaps import generate_frames

from ltdiff.dicom.codestream import codestream_size


@pytest.mark.parametrize(
    "name",
    ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG-lossy.dcm", "JPGExtended.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)
def test_the_frame_says_what_the_header_says(name):
    dataset = pydicom.dcmread(bundled(name))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    assert codestream_size(frame) == (dataset.Rows, dataset.Columns)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0" * 64, b"\xff\xd8\xff\xe0\0\0" * 9])
def test_no_header_no_size(frame):
    assert codestream_size(frame) in (None, (0, 0))
