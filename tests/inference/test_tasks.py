"""One piece of work: here without a model, any slices will do."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from ltdiff.data.volume import Volume
from ltdiff.data.volume_files import SUFFIXES, read_volume, write_volume
from ltdiff.dicom.derived import Derivation
from ltdiff.dicom.series import find_series
from ltdiff.inference.tasks import SeriesTask, VolumeTask, split_suffix

DERIVATION = Derivation("LTDiff++", "1", "abc", "bridge without noise in bf16", "residual", 4, 0, "B", "L")
MODEL = Path("model")
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def volume() -> Volume:
    """A tilted scan with scanner's filler in its corners."""
    hu = np.rint(np.random.default_rng(0).normal(0, 100, (3, 16, 12))).astype(np.float32)
    hu[:, :2, :2] = hu[:, -2:, -2:] = -3024
    return Volume(hu, (3.0, 0.9, 0.7), (-12.25, 4.5, -100.0), OBLIQUE)


def volume_task(path, num_slices: int = 3) -> VolumeTask:
    return VolumeTask(path, path.parent / "out", DERIVATION, num_slices=num_slices, model=MODEL)


def run(task, change_hu: float = 10.0) -> None:
    task.output.parent.mkdir(exist_ok=True)
    task.write(task.read_slice(index) + change_hu for index in range(task.num_slices))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_volume_file_keeps_format_place_and_filler(volume, tmp_path, suffix):
    write_volume(volume, tmp_path / f"scan{suffix}")
    source = read_volume(tmp_path / f"scan{suffix}")
    task = volume_task(tmp_path / f"scan{suffix}")
    run(task)
    assert task.output == tmp_path / "out" / f"scan_ltdiff{suffix}"
    result = read_volume(task.output)
    for name in ("spacing_mm", "origin_mm", "direction"):
        assert getattr(result, name) == pytest.approx(getattr(source, name))
    assert result.stored_orientation == source.stored_orientation
    filler = source.hu == -3024
    assert np.count_nonzero(filler) == 3 * 8
    assert np.array_equal(result.hu, np.where(filler, -3024, source.hu + 10))
    assert task.is_done()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_voxels_under_the_same_name_are_another_source(volume, tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    run(volume_task(path))
    write_volume(dataclasses.replace(volume, hu=volume.hu + 1), path)
    with pytest.raises(ValueError, match="was made in another way"):
        volume_task(path).is_done()


def test_filler_is_shown_as_air(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    hu = volume_task(tmp_path / "scan.mha").read_slice(0)
    assert hu[0, 0] == -1024
    assert hu.min() == -1024


def test_a_volume_output_says_how_it_was_made(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    run(volume_task(tmp_path / "scan.mha"))
    origin = json.loads((tmp_path / "out" / "scan_ltdiff.mha.json").read_text())
    assert "not for diagnostic use" in origin["description"]
    assert origin["weights_sha256"] == "abc"
    assert len(origin["source_sha256"]) == 64


def test_a_volume_output_says_what_was_outside_the_scope(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    task = volume_task(tmp_path / "scan.mha")
    forced = dataclasses.replace(
        task, derivation=dataclasses.replace(DERIVATION, out_of_domain="noise 48 HU instead of 6 HU")
    )
    run(forced)
    origin = json.loads((tmp_path / "out" / "scan_ltdiff.mha.json").read_text())
    assert origin["out_of_domain"] == "noise 48 HU instead of 6 HU"
    assert "outside what the model was trained for: noise 48 HU" in origin["description"]
    assert forced.is_done()
    with pytest.raises(ValueError, match="made in another way"):
        task.is_done()


def test_an_output_of_other_settings_or_source_is_not_taken_for_this_one(volume, tmp_path):
    path = tmp_path / "scan.mha"
    write_volume(volume, path)
    task = volume_task(path)
    assert not task.is_done()
    run(task)
    other = dataclasses.replace(task, derivation=dataclasses.replace(DERIVATION, seed=1))
    with pytest.raises(ValueError, match=r"scan_ltdiff\.mha exists and was made in another way"):
        other.is_done()
    write_volume(dataclasses.replace(volume, hu=volume.hu + 1), path)
    with pytest.raises(ValueError, match="made in another way"):
        volume_task(path).is_done()


def test_too_few_slices_leave_no_output(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    task = volume_task(tmp_path / "scan.mha")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="shorter"):
        task.write(iter([volume.hu[0]]))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_task_travels_without_its_voxels(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    assert len(pickle.dumps(volume_task(tmp_path / "scan.mha"))) < 2000


def test_a_series_that_fails_half_way_leaves_nothing(make_series, tmp_path):
    (series,), _ = find_series(make_series(tmp_path / "in"))
    task = SeriesTask(series, tmp_path / "out", DERIVATION, MODEL)

    def slices():
        yield task.read_slice(0)
        raise ValueError("the second slice cannot be read")

    with pytest.raises(ValueError, match="the second slice"):
        task.write(slices())
    assert not task.is_done()
    assert list((tmp_path / "out").iterdir()) == []
    run(task)
    assert task.is_done()
    assert sorted(path.name for path in task.output.iterdir()) == [f"slice_{n:04d}.dcm" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("scan.nii.gz", ("scan", ".nii.gz")),
        ("scan.nii", ("scan", ".nii")),
        ("a.b.NRRD", ("a.b", ".NRRD")),
        ("x.mhd", ("x", ".mhd")),
    ],
)
def test_split_suffix(tmp_path, name, parts):
    assert split_suffix(tmp_path / name) == parts
