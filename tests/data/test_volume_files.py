"""Volume files: what is read is written back, axial slices in ascending z whatever the file's order, broken files named."""

import gzip
import itertools
import resource

import numpy as np
import pytest
import SimpleITK as sitk

from ltdiff.data.volume_files import is_volume_file, read_mask, read_volume, read_volume_scan, read_volume_slice, write_volume
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.series import find_series

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = tuple(float(value) for value in sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.3).GetMatrix())
# Every order in which a file may keep its axes: 48 codes such as LPS, RAS (most NIfTI files) or PIR.
CODES = [
    "".join(side[letter] for side, letter in zip(sides, order, strict=True))
    for order in itertools.permutations((0, 1, 2))
    for sides in itertools.product(("RAI", "LPS"), repeat=3)
]


def _image(values, *, direction=AXIAL):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.75, 0.875, 2.5))
    image.SetOrigin((-170.5, -90.25, -300.125))
    image.SetDirection(direction)
    return image


def _ct(shape=(4, 5, 6), dtype=np.int16):
    return np.random.default_rng(0).integers(-1024, 2000, shape).astype(dtype)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("num_slices", [1, 4])
@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "PIR"])
def test_written_back_as_it_was_read(tmp_path, suffix, dtype, num_slices, code):
    values = _ct((num_slices, 5, 6), dtype) + dtype(0.25 if dtype is np.float32 else 0)
    first, second = tmp_path / f"first{suffix}", tmp_path / "out" / f"second{suffix}"
    sitk.WriteImage(sitk.DICOMOrient(_image(values), code), first)
    write_volume(read_volume(first), second)
    before, after = sitk.ReadImage(first), sitk.ReadImage(second)
    assert after.GetPixelID() == before.GetPixelID()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
    for geometry in ("GetSize", "GetSpacing", "GetDirection", "GetOrigin"):
        np.testing.assert_allclose(getattr(after, geometry)(), getattr(before, geometry)(), rtol=0, atol=1e-5)
    assert all(not file.name.startswith(".") for file in second.parent.iterdir())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_values_may_have_a_slope_and_an_intercept(tmp_path, suffix):
    """As converters store CT: whole numbers from 0 on. Still no file that is cut short passes."""
    stored = (_ct() + 1024).astype(np.int16)
    sitk.WriteImage(_image(stored), tmp_path / "plain.nii")
    content = bytearray((tmp_path / "plain.nii").read_bytes())
    content[112:120] = np.array([2.0, -1024.0], dtype="<f4").tobytes()  # scl_slope, scl_inter
    path, short = tmp_path / f"scan{suffix}", tmp_path / f"short{suffix}"
    for file, some in ((path, content), (short, content[:-1])):
        file.write_bytes(gzip.compress(some) if suffix.endswith("gz") else some)
    np.testing.assert_array_equal(read_volume(path).hu, 2 * stored.astype(np.float32) - 1024)
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_volume(short)


@pytest.mark.parametrize(("air", "is_named"), [(-1000, False), (40, True)])
def test_a_scan_without_air_is_named(tmp_path, caplog, air, is_named):
    hu = np.full((3, 8, 8), 40)
    hu[:, :3] = air
    sitk.WriteImage(_image(hu.astype(np.int16)), tmp_path / "scan.mha")
    read_volume_scan(tmp_path / "scan.mha")
    assert ("scan.mha: no value is below -500" in caplog.text) == is_named


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_stored_values_without_their_intercept_are_refused(tmp_path, suffix):
    """Air at 0, tissue at 1040: nothing tells them from HU but where they lie."""
    stored = np.full((3, 8, 8), 1040)
    stored[:, :3] = 0
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(_image(stored.astype(np.int16)), path)
    for read in (read_volume_scan, lambda path: read_volume_slice(path, 1)):
        with pytest.raises(ValueError, match=rf"scan\{suffix} has implausible HU: .*none below -500 HU.*intercept was lost"):
            read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_finite_is_refused_in_every_format(tmp_path, suffix, dtype, value):
    """ITK makes water of it in NIfTI files."""
    values = _ct(dtype=dtype)
    values[1, 2, 3] = value
    path = tmp_path / f"odd{suffix}"
    sitk.WriteImage(_image(values), path)
    for read in (read_volume, read_volume_scan, lambda path: read_volume_slice(path, 1)):
        with pytest.raises(ValueError, match=r"odd.*: 1 of its values are NaN or infinite"):
            read(path)


@pytest.mark.parametrize("code", CODES)
def test_any_axis_order_gives_the_same_axial_slices(tmp_path, code):
    path = tmp_path / "volume.nrrd"
    sitk.WriteImage(sitk.DICOMOrient(_image(_ct()), code), path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.hu, _ct())
    assert volume.spacing_mm == (2.5, 0.875, 0.75)
    np.testing.assert_allclose(volume.origin_mm, (-170.5, -90.25, -300.125))
    np.testing.assert_array_equal(np.stack([read_volume_slice(path, index) for index in range(4)]), _ct())
    np.testing.assert_array_equal(read_mask_of(_ct() > 0, code, tmp_path), _ct() > 0)


def read_mask_of(mask, code, folder):
    sitk.WriteImage(sitk.DICOMOrient(_image(mask.astype(np.uint8)), code), folder / "mask.nii.gz")
    return read_mask(folder / "mask.nii.gz")


@pytest.mark.parametrize("direction", [AXIAL, OBLIQUE])
def test_slice_positions_are_those_of_the_file(tmp_path, direction):
    image = _image(_ct(), direction=direction)
    sitk.WriteImage(sitk.DICOMOrient(image, "RAI"), tmp_path / "volume.nrrd")
    series = read_volume_scan(tmp_path / "volume.nrrd")
    for index, header in enumerate(series.slices):
        np.testing.assert_allclose(header.position_mm, image.TransformIndexToPhysicalPoint((0, 0, index)))
    np.testing.assert_allclose(np.diff([header.z_mm for header in series.slices]), 2.5)
    np.testing.assert_allclose(series.orientation, np.array(direction).reshape(3, 3).T[:2].ravel())
    assert (series.rows, series.columns, series.num_slices) == (5, 6, 4)
    assert series.spacing_mm == pytest.approx((0.875, 0.75))


def test_identity_is_of_the_voxels_not_of_the_file(tmp_path):
    for name in ("a.nii.gz", "b.mha"):
        sitk.WriteImage(_image(_ct()), tmp_path / name)
    sitk.WriteImage(_image(_ct() + np.int16(1)), tmp_path / "c.mha")
    a, b, c = (read_volume_scan(tmp_path / name) for name in ("a.nii.gz", "b.mha", "c.mha"))
    assert (a.series_instance_uid, a.patient_key) == (b.series_instance_uid, b.patient_key)
    assert a.series_instance_uid != c.series_instance_uid
    assert len(a.patient_key) == 12


def test_whole_values_become_int16_where_they_fit(tmp_path):
    for values, pixel_type in (
        (_ct(dtype=np.float32), sitk.sitkInt16),
        (_ct(dtype=np.float32) + np.float32(0.5), sitk.sitkFloat32),
        (_ct(dtype=np.float32) + np.float32(34_000), sitk.sitkFloat32),
    ):
        sitk.WriteImage(_image(values), tmp_path / "in.mha")
        write_volume(read_volume(tmp_path / "in.mha"), tmp_path / "out.mha")
        assert sitk.ReadImage(tmp_path / "out.mha").GetPixelID() == pixel_type


def test_a_plain_image_is_one_slice(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(_ct()[0]), tmp_path / "image.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "image.nii").hu, _ct()[:1])
    np.testing.assert_array_equal(read_volume_slice(tmp_path / "image.nii", 0), _ct()[0])


def test_filler_outside_the_field_of_view_is_air_in_a_slice_and_kept_in_the_volume(tmp_path):
    values = _ct()
    values[:, 0, :] = -3024
    sitk.WriteImage(_image(values), tmp_path / "volume.mha")
    assert (read_volume_slice(tmp_path / "volume.mha", 1)[0] == -1024).all()
    assert (read_volume(tmp_path / "volume.mha").hu[:, 0] == -3024).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_a_broken_file_is_named_in_one_sentence_and_nothing_else_is_printed(tmp_path, suffix, damage, capfd):
    path = tmp_path / f"broken{suffix}"
    sitk.WriteImage(_image(_ct((8, 32, 32))), path)
    content = {"empty": b"", "text": b"no image " * 100, "cut": path.read_bytes()[: path.stat().st_size // 2]}[damage]
    if suffix in (".nhdr", ".mhd") and damage == "cut":  # the voxels lie in a file of their own
        data = next(file for file in tmp_path.iterdir() if file != path)
        data.write_bytes(data.read_bytes()[:100])
    else:
        path.write_bytes(content)
    for read in (read_volume, read_mask, read_volume_scan):
        with pytest.raises(ValueError, match=f"broken{suffix}: ") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_header_that_claims_too_many_voxels_is_refused_before_they_take_memory(tmp_path, suffix):
    path = tmp_path / f"lying{suffix}"
    sitk.WriteImage(_image(_ct((8, 8, 8))), path)
    content = path.read_bytes()
    if "nii" in suffix:
        content = bytearray(gzip.decompress(content) if suffix.endswith("gz") else content)
        content[42:48] = np.array([2000, 2000, 2000], "<i2").tobytes()
        content = gzip.compress(content) if suffix.endswith("gz") else content
    else:
        content = content.replace(b"sizes: 8 8 8", b"sizes: 2000 2000 2000").replace(
            b"DimSize = 8 8 8", b"DimSize = 2000 2000 2000"
        )
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_what_is_no_ct_volume_is_refused(tmp_path):
    nan = _ct(dtype=np.float32)
    nan[0, 0, 0] = np.nan
    for values, sentence in (
        (nan, "1 of its values are NaN or infinite, which are no Hounsfield units"),
        (_ct(dtype=np.float32) * 100, "no Hounsfield units"),
    ):
        sitk.WriteImage(_image(values), tmp_path / "odd.nrrd")
        with pytest.raises(ValueError, match=sentence):
            read_volume(tmp_path / "odd.nrrd")
        with pytest.raises(ValueError, match=sentence):
            read_volume_slice(tmp_path / "odd.nrrd", 0)
        with pytest.raises(ValueError, match="whole numbers from 0 to 65535"):
            read_mask(tmp_path / "odd.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(_ct(), isVector=True), tmp_path / "colour.nrrd")
    with pytest.raises(ValueError, match="2 dimensions with 6 values"):
        read_volume(tmp_path / "colour.nrrd")
    with pytest.raises(ValueError, match=r"gone\.nii: there is no such file"):
        read_volume(tmp_path / "gone.nii")


def test_an_unknown_slice_or_format_is_named(tmp_path):
    sitk.WriteImage(_image(_ct()), tmp_path / "volume.mha")
    for index in (-1, 4):
        with pytest.raises(ValueError, match=f"slice {index} is not among the 4 slices"):
            read_volume_slice(tmp_path / "volume.mha", index)
    with pytest.raises(ValueError, match="ends with none of"):
        write_volume(read_volume(tmp_path / "volume.mha"), tmp_path / "volume.tif")


def test_a_nifti_file_whose_gzip_sum_is_wrong_is_refused(tmp_path):
    sitk.WriteImage(_image(_ct((8, 64, 64))), tmp_path / "volume.nii")
    packed = bytearray(gzip.compress((tmp_path / "volume.nii").read_bytes()))
    packed[-6] ^= 1
    (tmp_path / "flipped.nii.gz").write_bytes(packed)
    with pytest.raises(ValueError, match="cannot be read"):
        read_volume(tmp_path / "flipped.nii.gz")


def test_volume_files_are_known_by_their_names(tmp_path):
    assert all(is_volume_file(tmp_path / f"a{suffix.upper()}") for suffix in SUFFIXES)
    assert not any(is_volume_file(tmp_path / name) for name in ("a.dcm", "nii", "a.nii.dcm", "a.gz"))


def test_the_real_mask_lies_on_the_tumour(real_data):
    labels = read_mask(real_data / "lung-pet-ct-dx-a0001" / "tumour_mask.nii.gz")
    (series,), _ = find_series(real_data / "lung-pet-ct-dx-a0001" / "soft_B")
    assert labels.shape == (series.num_slices, series.rows, series.columns)
    slices = [index for index in range(len(labels)) if labels[index].any()]
    assert slices == list(range(41, 52))
    inside = np.concatenate([read_slice_hu(series.slices[index].path)[labels[index] > 0] for index in slices])
    assert np.mean(inside > -300) > 0.95
