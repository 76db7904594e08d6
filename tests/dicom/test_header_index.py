"""The next command reads what is new or has changed, and never believes what is damaged, stale or another version's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from dicom_files import NUM_SLICES, edit

from ltdiff.dicom import header, header_index, header_table
from ltdiff.dicom.header_index import HeaderIndex
from ltdiff.dicom.header_scan import scan_headers
from ltdiff.dicom.series import find_archived_series, find_series
from ltdiff.dicom.write_dataset import stable_uid


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch, settled):
    monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def archive(write_series, tmp_path):
    """Two series and a file that is none."""
    for name in "ab":
        write_series(f"archive/{name}", series_uid=stable_uid(name), kernel=name)
    (tmp_path / "archive" / "notes.txt").write_text("n" * 200)
    return tmp_path / "archive"


@pytest.fixture
def read(monkeypatch):
    """The files whose headers were read."""
    paths = []
    original = header_table.read_header
    monkeypatch.setattr(header_table, "read_header", lambda path: paths.append(path) or original(path))
    return paths


def parts_of(archive):
    return sorted(HeaderIndex.of(archive).folder.iterdir())


def test_the_second_time_nothing_is_read_and_the_same_is_found(archive, read):
    first = find_archived_series(archive)
    assert len(read) == 2 * NUM_SLICES + 1
    read.clear()
    assert find_archived_series(archive) == first == find_series(archive)
    assert len(read) == 2 * NUM_SLICES + 1  # by find_series, which has no index
    assert [one.kernel for one in first[0]] == ["a", "b"]


def test_what_is_new_changed_or_gone_is_seen(archive, read, write_series):
    find_archived_series(archive)
    read.clear()
    write_series("archive/c", series_uid=stable_uid("c"), kernel="c")
    changed = archive / "a" / "slice_0003.dcm"
    edit(changed, PatientComments="longer than before")
    shutil.rmtree(archive / "b")
    series, _ = find_archived_series(archive)
    assert sorted(read) == sorted([changed, *(archive / "c").iterdir()])
    assert [one.kernel for one in series] == ["a", "c"]


def test_a_file_that_was_exchanged_and_given_its_old_time_is_seen(archive):
    find_archived_series(archive)
    for path in (archive / "a").iterdir():
        before = path.stat()
        edit(path, ConvolutionKernel="z")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
    assert [one.kernel for one in find_archived_series(archive)[0]] == ["z", "b"]


@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_part_is_read_again(archive, read, caplog, place, damage):
    first = find_archived_series(archive)
    (part,) = parts_of(archive)
    content = bytearray(part.read_bytes())
    number = int(place * len(content))
    content[number] ^= 1
    part.write_bytes(content if damage == "flipped" else content[:number])
    read.clear()
    assert find_archived_series(archive) == first
    assert len(read) == 2 * NUM_SLICES + 1
    assert "damaged part" in caplog.text
    read.clear()
    assert find_archived_series(archive) == first
    assert read == []


def test_another_version_of_the_reader_reads_all_again(archive, read, monkeypatch):
    first = find_archived_series(archive)
    read.clear()
    monkeypatch.setattr(header_index, "_version", lambda: "0" * 8)
    assert find_archived_series(archive) == first
    assert len(read) == 2 * NUM_SLICES + 1
    assert [part.name[:9] for part in parts_of(archive)] == ["00000000-"]


def test_what_was_written_a_moment_ago_is_not_kept(archive, read, monkeypatch):
    monkeypatch.setattr(header_index, "SETTLED_NS", 10**18)
    find_archived_series(archive)
    read.clear()
    find_archived_series(archive)
    assert len(read) == 2 * NUM_SLICES + 1


def test_what_nobody_foresaw_is_tried_again(archive, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(header, "_geometry", lambda dataset: 1 / 0)
        assert find_archived_series(archive)[0] == []
    assert len(find_archived_series(archive)[0]) == 2


def test_a_refusal_is_kept(archive, read):
    edit(archive / "a" / "slice_0002.dcm", RescaleSlope=None)
    first = find_archived_series(archive)
    read.clear()
    assert find_archived_series(archive) == first
    assert read == []
    assert "has no RescaleSlope" in str(first[1])


CHILD = """
import os, signal, sys
from pathlib import Path
from ltdiff.dicom import header_index, header_scan, header_table
header_index.SETTLED_NS, header_index.ROWS_PER_PART, header_scan.FILES_PER_BATCH = 0, 2, 1
original, left = header_table.read_header, [7]
def read_header(path):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(path)
header_table.read_header = read_header
header_scan.scan_headers(Path(sys.argv[1]), [], without=None, index=header_index.HeaderIndex.of(Path(sys.argv[1])), num_workers=1)
"""


def test_a_command_that_is_killed_leaves_what_it_has_read(archive, read):
    assert subprocess.run([sys.executable, "-c", CHILD, archive], check=False).returncode == -9
    assert len(parts_of(archive)) == 3
    assert find_archived_series(archive) == find_series(archive)
    assert len(read) == 2 * (2 * NUM_SLICES + 1) - 6  # six were there; find_series reads all


def test_two_commands_at_once_add_to_each_other(archive, read):
    find_archived_series(archive / "a")  # an archive of its own
    read.clear()
    files = [path.relative_to(archive) for path in sorted((archive / "a").iterdir())]
    one, other = HeaderIndex.of(archive), HeaderIndex.of(archive)
    with one, other:
        for number, path in enumerate(files):
            rows = header_table.read_rows(header_table.Files(f"{archive}/", [os.fsencode(path)]))
            (one, other)[number % 2].add(rows)
    assert len(parts_of(archive)) == 2
    read.clear()
    find_archived_series(archive)
    assert len(read) == NUM_SLICES + 1
    assert {path.parent.name for path in read} == {"b", "archive"}


def test_a_part_that_another_command_has_just_replaced_is_read_again(archive, monkeypatch):
    first = find_archived_series(archive)
    stale = parts_of(archive)
    monkeypatch.setattr(HeaderIndex, "_parts", lambda self: [*stale, *(path.with_name("gone") for path in stale)])
    stale[0].unlink()
    assert find_archived_series(archive) == first


def test_many_small_parts_become_few(archive, read, monkeypatch):
    monkeypatch.setattr(header_index, "MAX_SPARE_PARTS", 2)
    index = HeaderIndex.of(archive)
    rows = scan_headers(archive, [], without=None, index=HeaderIndex(None), num_workers=None).rows
    for number in range(len(rows)):
        with index:
            index.add(rows.slice(number, 1))
    assert len(parts_of(archive)) == len(rows)
    read.clear()
    first = find_archived_series(archive)
    assert read == []
    assert len(parts_of(archive)) == 1
    assert find_archived_series(archive) == first
    assert read == []


def test_rows_of_files_that_are_gone_are_given_up(archive):
    find_archived_series(archive)
    before = parts_of(archive)[0].stat().st_size
    shutil.rmtree(archive / "b")
    (archive / "notes.txt").unlink()
    for path in sorted((archive / "a").iterdir())[2:]:
        path.unlink()
    find_archived_series(archive)
    (part,) = parts_of(archive)
    assert part.stat().st_size < before


def test_what_a_killed_writer_left_is_removed_and_what_another_one_writes_is_not(archive):
    folder = HeaderIndex.of(archive).folder
    for name in ("old", "new"):
        (folder / f".partial-{name}").mkdir(parents=True)
    os.utime(folder / ".partial-old", (0, 0))
    (folder / ".partial-gone").symlink_to(folder / "nowhere")  # as one that is gone when it is looked at
    find_archived_series(archive)
    assert {path.name for path in folder.iterdir() if path.suffix != ".parquet"} == {".partial-new", ".partial-gone"}
    assert len([path for path in folder.iterdir() if path.suffix == ".parquet"]) == 1


@pytest.mark.parametrize("obstacle", ["file", "no home"])
def test_where_nothing_can_be_kept_the_work_goes_on(archive, tmp_path, monkeypatch, caplog, obstacle):
    if obstacle == "file":
        (tmp_path / "cache").write_text("in the way")
    else:
        monkeypatch.delenv("LTDIFF_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert find_archived_series(archive) == find_series(archive)
    assert caplog.text.count("headers are not kept for the next command") == 1


def test_nobody_else_can_read_it_and_no_name_or_number_of_a_patient_is_in_it(write_series, tmp_path):
    folder = write_series("archive")
    for path in folder.iterdir():
        edit(path, PatientName="CANARY^Jane", PatientID="CANARY-1", PatientBirthDate="19010203", AccessionNumber="CANARY")
    find_archived_series(tmp_path / "archive")
    index = HeaderIndex.of(tmp_path / "archive")
    assert index.folder.stat().st_mode & 0o077 == 0
    (table,) = index._read_parts()
    text = "".join(str(column.to_pylist()) for column in table.columns)
    assert "slice_0001.dcm" in text
    assert "CANARY" not in text
    assert "19010203" not in text


def test_output_in_the_archive_is_not_entered(archive):
    shutil.copytree(archive / "b", archive / "out" / "series")
    (archive / "out" / "bad.dcm").write_text("x")
    series, issues = find_archived_series(archive, without=archive / "out")
    assert [one.kernel for one in series] == ["a", "b"]
    assert [issue.path.name for issue in issues] == ["notes.txt"]


def test_parts_are_parquet_that_other_programs_read(archive):
    find_archived_series(archive)
    assert pa.parquet.read_table(parts_of(archive)[0]).num_rows == 2 * NUM_SLICES + 1
