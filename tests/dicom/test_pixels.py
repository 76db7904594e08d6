"""From stored values to HU: encodings, signs, padding, plausibility."""

import gdcm
import numpy as np
import pydicom
import pytest
from dicom_files import assert_as_plain_pydicom, bundled, edit, phantom_hu, set_stored
from pydicom.encaps import generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ltdiff.dicom.pixels import codestream_size, read_slice_hu, read_stored_slice
from ltdiff.dicom.scan import AIR_FILL_HU


def test_hu_are_rescaled_float32(one_slice):
    hu = read_slice_hu(one_slice)
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, phantom_hu()[0])


def test_a_rescale_of_its_own(one_slice):
    edit(one_slice, RescaleSlope="0.5", RescaleIntercept="-1012.25")
    np.testing.assert_array_equal(read_slice_hu(one_slice), (phantom_hu()[0] + 1024) / 2 - 1012.25)


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_encodings(one_slice, transfer_syntax):
    dataset = pydicom.dcmread(one_slice)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    pydicom.dcmwrite(one_slice, dataset, enforce_file_format=True)
    np.testing.assert_array_equal(read_slice_hu(one_slice), phantom_hu()[0])


def test_big_endian(one_slice):
    dataset = pydicom.dcmread(one_slice)
    dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    fresh = pydicom.Dataset(dataset)  # one that was not read as little endian
    fresh.file_meta = dataset.file_meta
    pydicom.dcmwrite(one_slice, fresh, enforce_file_format=True)
    np.testing.assert_array_equal(read_slice_hu(one_slice), phantom_hu()[0])


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_encodings(one_slice, transfer_syntax):
    edit(one_slice, lambda dataset: dataset.compress(transfer_syntax))
    np.testing.assert_array_equal(read_slice_hu(one_slice), phantom_hu()[0])


@pytest.mark.parametrize("bits_stored", [12, 16])
@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "transfer_syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless]
)
def test_pixels_are_those_of_plain_pydicom(one_slice, transfer_syntax, is_signed, bits_stored):
    """Read by the path, without the other elements, they are bit by bit those of the whole dataset."""
    hu = phantom_hu()[0]
    stored = hu.astype(np.int16) if is_signed else (hu + 1024).astype(np.uint16)
    elements = {"BitsStored": bits_stored, "HighBit": bits_stored - 1, "PixelRepresentation": int(is_signed)}
    set_stored(one_slice, stored, RescaleIntercept=0 if is_signed else -1024, **elements)
    dataset = pydicom.dcmread(one_slice)
    if transfer_syntax.is_compressed and not transfer_syntax.is_deflated:
        dataset.compress(transfer_syntax)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    pydicom.dcmwrite(one_slice, dataset, enforce_file_format=True)
    assert_as_plain_pydicom(one_slice)


def test_pixels_of_a_scanner_are_those_of_plain_pydicom():
    assert_as_plain_pydicom(bundled("CT_small.dcm"))


@pytest.fixture
def without_gdcm():
    """As where `[codecs]` was not installed."""
    decoder = pydicom.pixels.get_decoder(JPEGLosslessSV1)
    decoder.remove_plugin("gdcm")
    yield
    decoder.add_plugin("gdcm", ("pydicom.pixels.decoders.gdcm", "_decode_frame"))


def as_jpeg_lossless(path, transfer_syntax):
    """Compress a slice in place with GDCM, which pydicom cannot write with."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(transfer_syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("transfer_syntax", [JPEGLossless, JPEGLosslessSV1])
def test_jpeg_lossless(one_slice, transfer_syntax, is_signed):
    if is_signed:
        elements = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": 0}
        set_stored(one_slice, phantom_hu()[0].astype(np.int16), **elements)
    as_jpeg_lossless(one_slice, transfer_syntax)
    assert pydicom.dcmread(one_slice).file_meta.TransferSyntaxUID == transfer_syntax
    np.testing.assert_array_equal(read_slice_hu(one_slice), phantom_hu()[0])


def test_a_damaged_jpeg_lossless_frame_is_one_sentence(one_slice, capfd):
    as_jpeg_lossless(one_slice, JPEGLosslessSV1)
    content = bytearray(one_slice.read_bytes())
    place = content.index(b"\xff\xda")
    content[place : place + 40] = bytes(40)
    one_slice.write_bytes(content)
    with pytest.raises(ValueError, match=r"slice_0001\.dcm cannot be decoded as JPEG Lossless"):
        read_slice_hu(one_slice)
    assert capfd.readouterr() == ("", "")


def test_a_missing_decoder_is_named(one_slice, without_gdcm):
    as_jpeg_lossless(one_slice, JPEGLosslessSV1)
    with pytest.raises(ValueError, match=r"JPEG Lossless.*pip install 'ltdiff\[codecs\]'"):
        read_slice_hu(one_slice)


def test_a_jpeg_2000_that_contradicts_its_header_is_read_as_it_was_meant():
    """Its frames are unsigned, its header says signed: −2000 outside the field of view, tissue inside."""
    hu = read_slice_hu(bundled("J2K_pixelrep_mismatch.dcm"))
    assert (hu[0, 0], hu.min() > -1200, hu.max()) == (AIR_FILL_HU, True, 1896)


@pytest.mark.parametrize("bits", [12, 13, 14])
def test_the_sign_is_extended(one_slice, bits):
    """Unused bits may hold anything: here an overlay's."""
    hu = phantom_hu()[0]
    stored = hu.astype(np.int16) & (2**bits - 1) | np.int16(2**14 if bits < 14 else 0)
    set_stored(one_slice, stored, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=1, RescaleIntercept=0)
    np.testing.assert_array_equal(read_slice_hu(one_slice), hu)


@pytest.mark.parametrize("padding", [-2000, 63536], ids=["signed", "written unsigned"])
def test_padding_becomes_air_and_is_kept(one_slice, padding):
    stored = (phantom_hu()[0] + 1024).astype(np.int16)
    stored[:4] = -2000
    set_stored(one_slice, stored, BitsStored=16, HighBit=15, PixelRepresentation=1, PixelPaddingValue=padding)
    slice_ = read_stored_slice(one_slice)
    assert (slice_.hu[:4] == AIR_FILL_HU).all()
    assert (slice_.stored[slice_.padding] == -2000).all()
    assert slice_.padding.sum() == 4 * 32
    np.testing.assert_array_equal(slice_.hu[4:], phantom_hu()[0, 4:])


def test_padding_outside_the_stored_bits(one_slice):
    """−2000 in all 16 bits of 12-bit pixels: without its upper bits it would be bone."""
    stored = (phantom_hu()[0] + 1024).astype(np.uint16)
    stored[:4] = 63536
    set_stored(one_slice, stored, PixelPaddingValue=63536)
    slice_ = read_stored_slice(one_slice)
    assert (slice_.hu[:4] == AIR_FILL_HU).all()
    assert (slice_.stored[:4] == 63536).all()


def test_a_range_of_padding(one_slice):
    stored = (phantom_hu()[0] + 1024).astype(np.uint16)
    stored[0], stored[1], stored[2] = 4090, 4093, 4095
    set_stored(one_slice, stored, PixelPaddingValue=4095, PixelPaddingRangeLimit=4090)
    assert (read_slice_hu(one_slice)[:3] == AIR_FILL_HU).all()


@pytest.mark.parametrize("filler", [-2000, -2048, -3024])
def test_filler_outside_the_field_of_view_becomes_air(one_slice, filler):
    hu = phantom_hu()[0].astype(np.int16)
    y, x = np.mgrid[-16:16, -16:16]
    outside = y**2 + x**2 > 16**2
    hu[outside] = filler
    hu[16, 16] = -1100  # noise: stays
    set_stored(one_slice, hu, BitsStored=16, HighBit=15, PixelRepresentation=1, RescaleIntercept=0)
    read = read_slice_hu(one_slice)
    assert (read[outside] == AIR_FILL_HU).all()
    np.testing.assert_array_equal(read[~outside], hu[~outside])


def test_dark_noise_is_no_filler(one_slice):
    hu = phantom_hu()[0].astype(np.int16)
    hu[16, 16] = -1600
    set_stored(one_slice, hu, BitsStored=16, HighBit=15, PixelRepresentation=1, RescaleIntercept=0)
    assert read_slice_hu(one_slice)[16, 16] == -1600


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"PixelRepresentation": 0, "BitsStored": 16, "HighBit": 15}, "above"),  # signed pixels read as unsigned
        ({"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}, "above 1500 HU"),
        ({"PixelRepresentation": 1, "RescaleIntercept": -1024}, "below"),  # the rescale applied twice
        ({"PixelRepresentation": 1, "RescaleSlope": 10}, "below"),
        ({"PixelRepresentation": 1, "RescaleIntercept": 3000}, "above"),
    ],
)
def test_implausible_hu_fail(one_slice, elements, sentence):
    hu = np.round(phantom_hu()[0] * 0.9).astype(np.int16)
    set_stored(one_slice, hu, **({"BitsStored": 16, "HighBit": 15, "RescaleIntercept": 0} | elements))
    with pytest.raises(ValueError, match=f"implausible HU: .*{sentence}"):
        read_slice_hu(one_slice)


@pytest.mark.parametrize(
    "name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG-lossy.dcm", "JPGExtended.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_the_frame_says_what_the_header_says(name):
    dataset = pydicom.dcmread(bundled(name))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    assert codestream_size(frame) == (dataset.Rows, dataset.Columns)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0" * 64, b"\xff\xd8\xff\xe0\0\0" * 9])
def test_no_header_no_size(frame):
    assert codestream_size(frame) in (None, (0, 0))
