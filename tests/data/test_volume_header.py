"""Headers of volume files that contradict themselves or describe no regular grid, and those that do neither."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.data.volume_files import read_mask, read_volume, read_volume_scan, read_volume_slice

SHAPE = (4, 5, 6)
AFFINE = np.array([[-0.8, 0, 0, 25], [0, -0.8, 0, 30], [0, 0, 2.5, -7.0]])
ROTATION = (0.0, 0.0, 1.0)
"""Quaternion (b, c, d) of AFFINE."""


def write_nifti(path, affine=AFFINE, *, pixdim=None, quaternion=None, offset=None, qfac=1, sform_code=1, order="<"):
    """Voxels from 0 on; sform alone unless a quaternion is given."""
    pixdim = np.linalg.norm(affine[:, :3], axis=0) if pixdim is None else pixdim
    offset = affine[:, 3] if offset is None else offset
    z, y, x = SHAPE
    head = bytearray(348)

    def put(form, at, *values):
        struct.pack_into(order + form, head, at, *values)

    put("i", 0, len(head))
    put("8h", 40, 3, x, y, z, 1, 1, 1, 1)
    put("2h", 70, 4, 16)
    put("8f", 76, qfac, *pixdim, 1, 1, 1, 1)
    put("2f", 108, 352, 1)
    put("B", 123, 2)
    put("2h", 252, int(quaternion is not None), sform_code)
    put("6f", 256, *(quaternion or (0, 0, 0)), *offset)
    put("12f", 280, *affine.ravel())
    head[344:348] = b"n+1\0"
    voxels = np.arange(np.prod(SHAPE)).astype(f"{order}i2").tobytes()
    content = bytes(head) + b"\0" * 4 + voxels
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rotation_of(b, c, d):
    """The matrix of a quaternion, by ITK."""
    transform = sitk.VersorTransform((b, c, d, float(np.sqrt(max(0.0, 1 - b * b - c * c - d * d)))))
    return np.array(transform.GetMatrix()).reshape(3, 3)


@settings(max_examples=40)
@given(
    st.tuples(*[st.floats(-0.57, 0.57)] * 3),
    st.tuples(*[st.floats(0.1, 5)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.sampled_from([1, -1]),
    st.sampled_from("<>"),
    st.sampled_from([".nii", ".nii.gz"]),
    st.sampled_from(["sform", "qform", "both"]),
)
def test_what_agrees_is_read(tmp_path_factory, quaternion, spacing_mm, offset, qfac, order, suffix, method):
    affine = np.column_stack([rotation_of(*quaternion) * spacing_mm * [1, 1, qfac], offset])
    path = tmp_path_factory.mktemp("nifti") / f"scan{suffix}"
    given_quaternion = {} if method == "sform" else {"quaternion": quaternion}
    write_nifti(path, affine, qfac=qfac, sform_code=int(method != "qform"), order=order, **given_quaternion)
    assert sorted(read_volume(path).spacing_mm) == pytest.approx(sorted(spacing_mm), rel=1e-4)


@settings(max_examples=40)
@given(st.integers(0, 2), st.floats(0.002, 3), st.booleans(), st.sampled_from(["pixdim", "quaternion", "offset"]))
def test_what_disagrees_is_refused(tmp_path_factory, axis, by, is_less, what):
    """Programs would put the regions at different places, or give them other volumes."""
    path = tmp_path_factory.mktemp("nifti") / "scan.nii"
    pixdim, offset, quaternion = np.linalg.norm(AFFINE[:, :3], axis=0), AFFINE[:, 3].copy(), list(ROTATION)
    if what == "pixdim":
        pixdim[axis] *= 1 / (1 + by) if is_less else 1 + by
    elif what == "offset":
        offset[axis] += (1 + by) * pixdim[axis] * (-1 if is_less else 1)
    else:
        quaternion[axis] = 0.5 if axis < 2 else 0.0
    write_nifti(path, pixdim=pixdim, offset=offset, quaternion=tuple(quaternion))
    for read in (read_volume, read_mask, read_volume_scan, lambda file: read_volume_slice(file, 0)):
        with pytest.raises(ValueError, match=r"scan\.nii: its header contradicts itself: .*(pixdim|sform and qform)"):
            read(path)


@pytest.mark.parametrize("shear", [0.002, 0.4, -1.0])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_axes_that_are_not_at_right_angles_are_named(tmp_path, shear, suffix):
    affine = AFFINE.copy()
    affine[2, 1] = shear
    with pytest.raises(ValueError, match=r"scan\.nii.*: its axes are not at right angles"):
        read_volume(write_nifti(tmp_path / f"scan{suffix}", affine))


def test_axes_that_are_rounded_are_at_right_angles(tmp_path):
    affine = AFFINE.copy()
    affine[0, 1] = 4e-5
    assert read_volume(write_nifti(tmp_path / "scan.nii", affine)).hu.shape == SHAPE


def test_an_affine_that_is_none_is_named(tmp_path):
    for value in (np.nan, np.inf, 0):
        affine = AFFINE.copy()
        affine[:, 1] = value
        with pytest.raises(ValueError, match=r"scan\.nii: its sform is no grid"):
            read_volume(write_nifti(tmp_path / "scan.nii", affine))


@pytest.mark.parametrize(
    ("suffix", "line", "instead"),
    [
        (".nrrd", "space directions", "space directions: (0.8,0,0) (0.3,0.8,0) (0,0,2.5)"),
        (".mha", "TransformMatrix", "TransformMatrix = 1 0 0 0.3 1 0 0 0 1"),
        (".mha", "TransformMatrix", "TransformMatrix = 2 0 0 0 2 0 0 0 2"),
        (".mha", "TransformMatrix", "TransformMatrix = 1 0 0 1 0 0 0 0 1"),
    ],
)
def test_a_sheared_grid_in_other_formats_is_named(tmp_path, suffix, line, instead):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SHAPE, np.int16)), path, useCompression=False)
    lines = path.read_bytes().split(b"\n")
    (place,) = [n for n, text in enumerate(lines) if text.startswith(line.encode())]
    lines[place] = instead.encode()
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=rf"scan{suffix}: its axes are not at right angles"):
        read_volume(path)


def test_a_warning_of_itk_is_a_sentence_in_the_log(tmp_path, caplog, capfd):
    """Once for a file, however often it is read."""
    path = write_nifti(tmp_path / "image.nii", pixdim=[0.82, 0.8, 2.5])
    content = bytearray(path.read_bytes())
    struct.pack_into("<8h", content, 40, 2, 6, 5, 1, 1, 1, 1, 1)
    path.write_bytes(content)
    for _ in range(2):
        read_volume(path)
    assert [record.getMessage().split(" (")[0] for record in caplog.records if "ITK" in record.getMessage()] == [
        f"{path}: ITK, which reads it, finds it odd"
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", ["-1", "0", "11", "100", "99999999", "1e30", "99999 99999 99999", "", "three"])
def test_a_number_of_dimensions_at_which_itk_would_end_the_process(tmp_path, number):
    path = tmp_path / "scan.mha"
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), path)
    path.write_bytes(path.read_bytes().replace(b"NDims = 3\n", f"NDims = {number}\n".encode()))
    with pytest.raises(ValueError, match=r"scan\.mha: its NDims is no number of dimensions"):
        read_volume(path)


def test_voxels_in_a_file_that_no_file_can_be(tmp_path):
    path = tmp_path / "scan.mha"
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), path)
    path.write_bytes(path.read_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile = " + b"x" * 300))
    with pytest.raises(ValueError, match=r"scan\.mha: .* damaged"):
        read_volume(path)
