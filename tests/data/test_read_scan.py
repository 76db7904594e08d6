"""The scan that a path names."""

import numpy as np
import pytest
from tiny_run import SPACING_MM, save_volume

from ltdiff.data.read_scan import read_scan
from ltdiff.dicom.scan import AIR_FILL_HU
from ltdiff.dicom.series import Series

HU = np.random.default_rng(0).integers(-900, 300, (4, 12, 10)).astype(np.float32)


def test_a_volume_file(tmp_path):
    scan = read_scan(save_volume(HU, tmp_path / "scan.mha"))
    assert not isinstance(scan, Series)
    volume = scan.read_volume()
    assert volume.num_slices == scan.num_slices == 4
    assert np.array_equal(volume.hu, HU)
    assert volume.spacing_mm == pytest.approx(SPACING_MM)


def test_filler_outside_the_field_of_view_is_air(tmp_path):
    hu = HU.copy()
    hu[:, 0, 0] = -3024
    assert (read_scan(save_volume(hu, tmp_path / "scan.nrrd")).read_volume().hu[:, 0, 0] == AIR_FILL_HU).all()


def test_a_series(tmp_path, write_dicom):
    scan = read_scan(write_dicom(tmp_path / "series", HU, spacing_mm=0.8))
    volume = scan.read_volume()
    assert isinstance(scan, Series)
    assert scan.num_slices == 4
    assert np.array_equal(volume.hu, HU)
    assert volume.stored_orientation == "LPS"
    assert volume.spacing_mm == (5.0, 0.8, 0.8)
    assert volume.origin_mm == (-50.0, -40.0, 0.0)
    assert volume.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_of_one_slice_the_thickness_is_the_distance(tmp_path, write_dicom):
    assert read_scan(write_dicom(tmp_path / "series", HU[:1])).read_volume().spacing_mm[0] == 5.0


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("two series", "name one CT series; here are 2"),
        ("text", "is not a DICOM file"),
        ("a gap", "gap"),
        ("a part", "is truncated"),
        ("absent", "there is no such file or folder"),
    ],
)
def test_anything_else_is_one_sentence(tmp_path, write_dicom, case, sentence):
    root = tmp_path / "root"
    if case == "two series":
        write_dicom(root / "a", HU)
        write_dicom(root / "b", HU)
    if case in ("a gap", "a part"):
        write_dicom(root / "a", HU)
        files = sorted((root / "a").iterdir())
    if case == "a gap":
        files[1].unlink()
    if case == "a part":
        files[-1].write_bytes(files[-1].read_bytes()[:-100])
    if case in ("text", "a gap"):
        root.mkdir(exist_ok=True)
        (root / "notes.txt").write_text("n" * 200)
    with pytest.raises(ValueError, match=sentence):
        read_scan(root)
