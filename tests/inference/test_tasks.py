"""One piece of work: here without a model, any slices will do."""

import dataclasses
import json
import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ltdiff.data.volume_files import SUFFIXES, read_volume, read_volume_scan, write_volume
from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.scan import Volume
from ltdiff.dicom.series import find_series
from ltdiff.inference.archive import find_tasks
from ltdiff.inference.models import load_models
from ltdiff.inference.standardizer import InferenceConfig
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


def volume_task(path) -> VolumeTask:
    return VolumeTask(read_volume_scan(path), path.parent / "out", DERIVATION, MODEL)


def run(task, change_hu: float = 10.0) -> Path:
    task.out.mkdir(exist_ok=True)
    return task.write((source, source.hu + change_hu) for source in task.scan.read_slices())


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
    assert task.find_output() == task.output


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_voxels_under_the_same_name_are_another_source(volume, tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    run(volume_task(path))
    write_volume(dataclasses.replace(volume, hu=volume.hu + 1), path)
    with pytest.raises(ValueError, match="was made in another way"):
        volume_task(path).find_output()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_volume_file_that_was_exchanged_since_it_was_found_fails(volume, tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    task = volume_task(path)
    write_volume(dataclasses.replace(volume, hu=volume.hu + 1), path)
    with pytest.raises(ValueError, match="is no longer the file that was found"):
        run(task)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_volume_output_that_is_not_as_it_was_made_is_made_again(volume, tmp_path, suffix, caplog):
    write_volume(volume, tmp_path / f"scan{suffix}")
    task = volume_task(tmp_path / f"scan{suffix}")
    run(task)
    write_volume(volume, task.output)
    assert task.find_output() is None
    assert "is made again" in caplog.text
    run(task)
    assert task.find_output() == task.output
    task.output.rename(tmp_path / "elsewhere")
    task.output.symlink_to(tmp_path / "elsewhere")
    assert task.find_output() is None
    run(task)
    assert not task.output.is_symlink()


def test_filler_is_shown_as_air(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    hu = next(volume_task(tmp_path / "scan.mha").scan.read_slices()).hu
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
    forced = dataclasses.replace(task, derivation=dataclasses.replace(DERIVATION, out_of_domain="noise 48 HU instead of 6 HU"))
    run(forced)
    origin = json.loads((tmp_path / "out" / "scan_ltdiff.mha.json").read_text())
    assert origin["out_of_domain"] == "noise 48 HU instead of 6 HU"
    assert "outside what the model was trained for: noise 48 HU" in origin["description"]
    assert forced.find_output()
    with pytest.raises(ValueError, match="made in another way"):
        task.find_output()


def test_an_output_of_other_settings_or_source_is_not_taken_for_this_one(volume, tmp_path):
    path = tmp_path / "scan.mha"
    write_volume(volume, path)
    task = volume_task(path)
    assert task.find_output() is None
    run(task)
    other = dataclasses.replace(task, derivation=dataclasses.replace(DERIVATION, seed=1))
    with pytest.raises(ValueError, match=r"scan_ltdiff\.mha exists and was made in another way"):
        other.find_output()
    write_volume(dataclasses.replace(volume, hu=volume.hu + 1), path)
    with pytest.raises(ValueError, match="made in another way"):
        volume_task(path).find_output()


def test_too_few_slices_leave_no_output(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    task = volume_task(tmp_path / "scan.mha")
    (tmp_path / "out").mkdir()
    pairs = [(source, source.hu) for source in task.scan.read_slices()]
    for wrong in (pairs[:1], pairs + pairs[:1]):
        with pytest.raises(ValueError, match=f"has 3 slices, and {len(wrong)} came to be written"):
            task.write(iter(wrong))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_task_travels_without_its_voxels(volume, tmp_path):
    write_volume(volume, tmp_path / "scan.mha")
    assert len(pickle.dumps(volume_task(tmp_path / "scan.mha"))) < 2000


def test_a_series_that_fails_half_way_leaves_nothing(make_series, tmp_path):
    (series,), _ = find_series(make_series(tmp_path / "in"))
    task = SeriesTask(series, tmp_path / "out", DERIVATION, MODEL)

    def pairs():
        source = next(series.read_slices())
        yield source, source.hu
        raise ValueError("the second slice cannot be read")

    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="the second slice"):
        task.write(pairs())
    assert task.find_output() is None
    assert [path for path in (tmp_path / "out").iterdir() if path.suffix != ".json"] == []
    output = run(task)
    assert task.find_output() == output
    assert sorted(path.name for path in output.iterdir()) == [f"slice_{n:04d}.dcm" for n in (1, 2, 3)]


def test_a_slice_is_opened_once_for_its_header_once_for_its_hash_and_once_to_be_standardized(
    make_series, model, tmp_path, opened
):
    make_series(tmp_path / "in", num_slices=9)
    models = load_models(model, InferenceConfig())
    (task,), _ = find_tasks(tmp_path / "in", out=tmp_path / "out", trained_models=models)
    run(task)
    times = [opened[str(header.path)] for header in task.scan.slices]
    assert times == [4, 3, 4, 3, 5, 3, 4, 3, 4]  # five tell whether they hold HU; of the middle one also the noise was measured


@pytest.fixture
def opened():
    """How often each file is opened, by whatever library."""
    counts, is_noting = Counter(), [True]

    def note(event: str, arguments: tuple) -> None:
        if is_noting and event == "open":
            counts[str(arguments[0])] += 1

    sys.addaudithook(note)
    yield counts
    is_noting.clear()  # a hook stays


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
