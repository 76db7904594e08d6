"""Local copies of what a real S3 server holds."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from object_storage_server import files

from ltdiff.system.commit_object import COMMITTED, WRITING, write_snapshot
from ltdiff.system.object_storage import delete_object, write_object
from ltdiff.system.remote_input import as_locations, as_paths, fetch, fetch_missing, fetch_whole_folder
from ltdiff.system.remote_output import remote_output


@pytest.fixture
def archive(bucket):
    """A folder that others have written."""
    for name in ("p1/1.dcm", "p1/2.dcm", "p2/1.dcm"):
        write_object(bucket.child(f"scans/{name}"), name.encode())
    return bucket.child("scans")


@pytest.fixture
def result(bucket):
    """A folder that a command has written and committed."""
    with remote_output(bucket.child("run")) as path:
        (path / "model").mkdir(parents=True)
        (path / "model" / "weights").write_text("weights")
        (path / "log").write_text("log")
    return bucket.child("run")


def test_a_folder_is_fetched_once(archive):
    copy = fetch(archive)
    assert files(copy) == {name: name.encode() for name in ("p1/1.dcm", "p1/2.dcm", "p2/1.dcm")}
    before = {path: path.stat().st_ino for path in copy.rglob("*.dcm")}
    assert fetch(archive) == copy
    assert {path: path.stat().st_ino for path in copy.rglob("*.dcm")} == before


def test_what_was_changed_added_and_removed_there(archive):
    copy = fetch(archive)
    kept = (copy / "p2" / "1.dcm").stat().st_ino
    write_object(archive.child("p1/1.dcm"), b"another size")
    write_object(archive.child("p3/1.dcm"), b"new")
    delete_object(archive.child("p1/2.dcm"))
    fetch(archive)
    assert files(copy) == {"p1/1.dcm": b"another size", "p2/1.dcm": b"p2/1.dcm", "p3/1.dcm": b"new"}
    assert (copy / "p2" / "1.dcm").stat().st_ino == kept


def test_an_object_and_then_a_folder_of_its_name(bucket):
    write_object(bucket.child("x"), b"object")
    assert fetch(bucket.child("x")).read_bytes() == b"object"
    delete_object(bucket.child("x"))
    write_object(bucket.child("x/y"), b"in a folder")
    assert files(fetch(bucket.child("x"))) == {"y": b"in a folder"}
    delete_object(bucket.child("x/y"))
    write_object(bucket.child("x"), b"again")
    assert fetch(bucket.child("x")).read_bytes() == b"again"


def test_what_is_missing_is_named(archive):
    with pytest.raises(ValueError, match=rf"^{archive}/none: there is no such object or folder$"):
        fetch(archive.child("none"))


def test_a_result_is_what_was_committed(result):
    write_object(result.child("stranger"), b"x")
    assert files(fetch(result)) == {"model/weights": b"weights", "log": b"log"}
    assert files(fetch(result.child("model"))) == {"weights": b"weights"}
    assert fetch(result.child("log")).read_bytes() == b"log"


@pytest.mark.parametrize("content", [b"WEIGHTS", b"longer weights", None])
@pytest.mark.parametrize("name", ["", "model", "model/weights"])
def test_a_result_that_was_changed_after_its_commit_is_refused(content, name, result):
    if content is None:
        delete_object(result.child("model/weights"))
    else:
        write_object(result.child("model/weights"), content)
    for _ in range(2):
        with pytest.raises(ValueError, match="run/model/weights is not what was committed"):
            fetch(result.child(name))


@pytest.mark.parametrize("name", ["", "model", "model/weights"])
def test_a_result_that_is_not_finished_is_refused(name, result):
    delete_object(result.child(COMMITTED))
    write_snapshot(result, WRITING, number="1", files={})
    with pytest.raises(ValueError, match=rf"is not finished: process \d+ on .* was writing {result}\."):
        fetch(result.child(name))


def test_an_unfinished_result_in_a_folder_is_left_out(archive, caplog):
    write_snapshot(archive.child("derived"), WRITING, number="1", files={})
    write_object(archive.child("derived/p1/1.dcm"), b"half")
    write_snapshot(archive.child("p2"), COMMITTED, number="1", files={})
    with caplog.at_level("WARNING"):
        assert set(files(fetch(archive))) == {"p1/1.dcm", "p1/2.dcm", "p2/1.dcm"}
    assert f"{archive}/derived is left out" in caplog.text


def test_a_disk_that_is_too_small(archive, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(3))
    with pytest.raises(
        ValueError, match=rf"{archive} has 0.0 GB to be copied, and .* has room for 0.0 GB: let LTDIFF_CACHE name"
    ):
        fetch(archive)


def test_a_missing_slice_of_a_manifest_is_fetched_alone(archive, tmp_path):
    (path,) = as_paths([f"{archive}/p1/1.dcm"])
    copy = archive.child("p1/1.dcm").copy_in("read")
    assert path == str(copy)
    assert fetch_missing(copy)
    assert files(archive.copy_in("read")) == {"p1/1.dcm": b"p1/1.dcm"}
    assert not fetch_missing(copy)  # there it is
    assert not fetch_missing(tmp_path / "missing")
    assert not fetch_missing(archive.child("p1/1.dcm").copy_in("write"))
    with pytest.raises(ValueError, match=f"{archive}/gone.dcm: there is no such object"):
        fetch_missing(archive.child("gone.dcm").copy_in("read"))


def test_the_folder_of_a_series_is_fetched(archive, tmp_path):
    fetch_whole_folder(tmp_path)
    fetch_whole_folder(archive.child("p1").copy_in("read"))
    assert set(files(archive.copy_in("read"))) == {"p1/1.dcm", "p1/2.dcm"}


def test_a_user_without_a_home_has_no_copies(monkeypatch, tmp_path):
    monkeypatch.delenv("LTDIFF_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    path = str(tmp_path / "x.dcm")
    assert as_locations([path]) == as_paths([path]) == [path]
    assert not fetch_missing(Path(path))
    with pytest.raises(OSError, match="home directory"):
        as_paths(["s3://bucket/x.dcm"])


def test_locations_are_urls_of_copies_alone(archive, tmp_path):
    copies = [str(archive.child("p1/1.dcm").copy_in(kind)) for kind in ("read", "write")]
    others = [copies[1], str(tmp_path / "x.dcm"), "s3x/1.dcm", "relative.dcm"]
    assert as_locations([copies[0], *others]) == [f"{archive}/p1/1.dcm", *others]
    assert as_paths([f"{archive}/p1/1.dcm", *others]) == [copies[0], *others]
