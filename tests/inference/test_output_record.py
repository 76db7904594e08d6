"""A derived series is taken for present only where it is what was made, of the source as it is now."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ltdiff.dicom.derivation import Derivation
from ltdiff.dicom.series import find_series
from ltdiff.inference.output_record import FileFacts, read_record
from ltdiff.inference.tasks import SeriesTask

DERIVATION = Derivation("LTDiff++", "1", "abc", "bridge without noise in bf16", "residual", 4, 0, "B", "L")


class Run:
    """A series, and what standardizing it gives, without a model."""

    def __init__(self, source: Path, out: Path) -> None:
        self.source, self.out = source, out

    @property
    def task(self) -> SeriesTask:
        (series,), _ = find_series(self.source)
        return SeriesTask(series, self.out, DERIVATION, Path("model"))

    def __call__(self) -> Path:
        self.out.mkdir(exist_ok=True)
        task = self.task
        return task.write((source, source.hu + 10) for source in task.scan.read_slices())

    @property
    def content(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.out)): path.read_bytes() for path in sorted(self.out.glob("*/*.dcm"))}


@pytest.fixture
def run(make_series, tmp_path) -> Run:
    return Run(make_series(tmp_path / "in", num_slices=4, size=(16, 12)), tmp_path / "out")


def change_slice(folder: Path, change) -> None:
    """With the size and times of the file before, as far as anybody can set them."""
    path = sorted(folder.iterdir())[1]
    before = path.stat()
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def swap_pixels(dataset) -> None:
    dataset.PixelData = np.roll(dataset.pixel_array, 3).tobytes()


def delete_first(output: Path) -> None:
    sorted(output.iterdir())[0].unlink()


def empty(output: Path) -> None:
    for path in output.iterdir():
        path.unlink()


def cut_short(output: Path) -> None:
    path = sorted(output.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-7])


def swap_two(output: Path) -> None:
    first, second = sorted(output.iterdir())[:2]
    first.rename(output / "aside")
    second.rename(first)
    (output / "aside").rename(second)


def link_in_its_place(output: Path) -> None:
    output.rename(output.parent.parent / "elsewhere")
    output.symlink_to(output.parent.parent / "elsewhere")


def dangling_link(output: Path) -> None:
    shutil.rmtree(output)
    output.symlink_to(output.parent / "nowhere")


def link_for_a_slice(output: Path) -> None:
    path = sorted(output.iterdir())[0]
    path.rename(output.parent.parent / path.name)
    path.symlink_to(output.parent.parent / path.name)


def file_in_its_place(output: Path) -> None:
    shutil.rmtree(output)
    output.write_text("")


def slice_added(output: Path) -> None:
    shutil.copy(sorted(output.iterdir())[0], output / "slice_0009.dcm")


@pytest.mark.parametrize(
    "damage",
    [
        delete_first,
        empty,
        shutil.rmtree,
        cut_short,
        swap_two,
        link_in_its_place,
        dangling_link,
        link_for_a_slice,
        file_in_its_place,
        slice_added,
        lambda output: change_slice(output, swap_pixels),
    ],
)
def test_what_is_no_longer_whole_is_made_again_byte_by_byte(run, caplog, damage):
    output = run()
    made = run.content
    assert run.task.find_output() == output
    damage(output)
    assert run.task.find_output() is None
    assert f"{output} is made again: " in caplog.text
    assert run() == output
    assert not output.is_symlink()
    assert run.content == made  # the times at which it was made, too: the same UIDs, the same bytes
    assert run.task.find_output() == output


@pytest.mark.parametrize(
    "correct", [swap_pixels, lambda dataset: setattr(dataset, "PatientName", str(dataset.PatientName)[::-1])]
)
def test_a_source_that_was_corrected_under_its_uids_gives_another_series_in_place_of_the_former(run, correct):
    former = run()
    change_slice(run.source, correct)
    assert run.task.find_output() is None
    output = run()
    assert output.name != former.name
    assert not former.exists()
    assert run.task.find_output() == output


def test_a_source_that_was_moved_or_copied_is_the_same(run, tmp_path):
    output = run()
    run.source = shutil.copytree(run.source, tmp_path / "copy", copy_function=shutil.copyfile)
    assert run.task.find_output() == output


def test_what_somebody_put_there_is_not_removed(run):
    output = run()
    (output / "notes.txt").write_text("mine")
    assert run.task.find_output() is None
    with pytest.raises(ValueError, match=r"notes\.txt is no slice that ltdiff wrote"):
        run()
    assert (output / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"folder": 1}', '{"folder": "..", "made": "2020-01-01"}'])
def test_a_broken_note_is_none(run, content):
    run()
    (note,) = run.out.glob(".*.json")
    note.write_text(content)
    assert read_record(note) is None
    assert run.task.find_output() is None
    assert run.task.find_output() is None
    run()
    assert run.task.find_output()


@pytest.mark.parametrize("folder", ["..", ".", "in", "../in", "/etc", ""])
def test_a_note_leads_to_no_other_folder(run, folder):
    run()
    (note,) = run.out.glob(".*.json")
    note.write_text(note.read_text().replace(run.task.find_output().name, folder))
    assert read_record(note) is None


def test_a_run_that_was_killed_before_its_note_is_done_again_with_the_same_times(run):
    output = run()
    made = run.content
    (note,) = run.out.glob(".*.json")
    record = read_record(note)
    note.write_text(note.read_text().replace(str(record.slices), "{}"))
    shutil.rmtree(output)
    assert run.task.find_output() is None
    run()
    assert run.content == made


def test_a_source_that_changes_while_it_is_read_fails(run):
    task = run.task
    run.out.mkdir()

    def pairs():
        for number, source in enumerate(task.scan.read_slices()):
            if number == 0:
                change_slice(run.source, swap_pixels)  # its size and time are as they were
            yield source, source.hu

    with pytest.raises(ValueError, match=r"slice_0002\.dcm was changed while its series was read"):
        task.write(pairs())
    assert not list(run.out.glob("*/*.dcm"))


def test_facts_are_read_again_only_where_a_time_differs(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    facts = FileFacts.of(path)
    monkeypatch.setattr("ltdiff.inference.output_record.file_sha256", lambda _: pytest.fail("read again"))
    assert facts.fit(path)
