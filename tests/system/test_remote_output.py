"""Results on a real S3 server: whole or not there, also when a command was killed, and on another machine."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress

import pytest
from object_storage_server import contents, files, forget_connections

from ltdiff.system import remote_output as remote_output_module
from ltdiff.system.commit_object import COMMITTED, WRITING, read_snapshot
from ltdiff.system.object_storage import delete_object, find, list_objects, write_object
from ltdiff.system.remote_input import fetch
from ltdiff.system.remote_output import RemoteOutput, remote_output
from ltdiff.system.storage_url import Url


class Stop(Exception):
    """What ends a command."""


@pytest.fixture
def run(bucket):
    return bucket.child("runs/first")


@pytest.fixture
def other_machine(monkeypatch, tmp_path):
    """Makes this process one on another machine, with copies of its own; or one on the first again."""

    def change(name="other"):
        monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / name))

    return change


def write(path, **contents):
    path.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (path / name).write_text(text)


def stop_after_writing(url, **contents):
    with suppress(Stop), remote_output(url) as path:
        write(path, **contents)
        raise Stop


def marks(url):
    return {name for name in list_objects(url) if name.startswith("_")}


def test_a_reader_elsewhere_sees_all_of_it(run, other_machine):
    with remote_output(run) as path:
        write(path / "model", weights="w")
        write(path, log="l", **{".record": "r", ".ltdiff.lock": "mine"})
        assert marks(run) == {WRITING}
    other_machine()
    assert marks(run) == {COMMITTED}
    assert files(fetch(run)) == {"model/weights": b"w", "log": b"l", ".record": b"r"}


def test_what_ended_early_is_no_result_and_goes_on_anywhere(run, other_machine):
    stop_after_writing(run, a="1", b="1")
    other_machine()
    with pytest.raises(ValueError, match="is not finished"):
        fetch(run)
    with remote_output(run) as path:
        assert files(path) == {"a": b"1", "b": b"1"}
        (path / "a").unlink()
        write(path, b="2", c="2")
    assert {name: content for name, content in contents(run).items() if name != COMMITTED} == {"b": b"2", "c": b"2"}
    other_machine("cache")  # the first machine, which has an older version
    with remote_output(run) as path:
        assert files(path) == {"b": b"2", "c": b"2"}
    assert marks(run) == {COMMITTED}


def test_on_the_same_machine_nothing_is_read_again(run, monkeypatch):
    stop_after_writing(run, a="1")
    monkeypatch.delattr(remote_output_module, "get_file")
    with remote_output(run) as path:
        assert files(path) == {"a": b"1"}


def test_the_same_command_again_changes_nothing(run):
    for _ in range(2):
        with remote_output(run) as path:
            write(path, a="1")
    before = {name: find(run.child(name)) for name in list_objects(run)}, read_snapshot(run)
    with remote_output(run) as path:
        write(path, a="1")  # with another time
        assert marks(run) == {COMMITTED}
    assert ({name: find(run.child(name)) for name in list_objects(run)}, read_snapshot(run)) == before


def test_while_a_result_is_changed_it_is_none(run):
    with remote_output(run) as path:
        write(path, a="1")
    stop_after_writing(run, a="22")
    with pytest.raises(ValueError, match="is not finished"):
        fetch(run)
    with remote_output(run):
        pass
    assert files(fetch(run)) == {"a": b"22"}


KILLED = """
import os, sys
from ltdiff.system import remote_output as module
from ltdiff.system.storage_url import parse_url

put, left = module.put_file, iter(range(3))

def put_some(path, url):
    if next(left, None) is None:
        os._exit(9)
    return put(path, url)

module.put_file = put_some
with module.remote_output(parse_url(sys.argv[1])) as path:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(8):
        (path / f"file{number}").write_text("x" * number)
"""


@pytest.mark.parametrize("machine", ["cache", "other"])
def test_a_killed_upload_is_no_result_and_the_same_command_ends_it(machine, run, other_machine):
    assert subprocess.run([sys.executable, "-c", KILLED, str(run)], env=os.environ, check=False).returncode == 9
    assert marks(run) == {WRITING}
    assert len(list_objects(run)) <= 4
    other_machine(machine)
    with pytest.raises(ValueError, match="is not finished"):
        fetch(run)
    with remote_output(run) as path:
        here = files(path)  # nothing elsewhere: no file was put up together with the others
        assert len(here) == (8 if machine == "cache" else 0)
        for number in range(8):
            write(path, **{f"file{number}": "x" * number})
    assert files(fetch(run)) == {f"file{number}": b"x" * number for number in range(8)}


def test_files_are_put_up_while_the_command_works(run):
    with remote_output(run) as path:
        output = RemoteOutput(run)
        output.begin()
        write(path, checkpoint="1")
        output.put_new()
        assert contents(run)["checkpoint"] == b"1"
        assert marks(run) == {WRITING}
        assert dict(read_snapshot(run).files).keys() == {"checkpoint"}
        (path / "checkpoint").unlink()
        output.put_new()
        assert set(contents(run)) == {WRITING}


def test_what_was_removed_there_is_made_anew(run):
    with remote_output(run) as path:
        write(path, a="1", b="1")
    for name in list_objects(run):
        delete_object(run.child(name))
    with remote_output(run) as path:
        assert not path.exists()
        write(path, a="2")
    assert files(fetch(run)) == {"a": b"2"}


def test_local_copies_that_were_lost_are_fetched_and_not_removed_there(run):
    with remote_output(run) as path:
        write(path, a="1", b="1")
    (path / "a").unlink()
    with remote_output(run) as path:
        assert files(path) == {"a": b"1", "b": b"1"}
    assert marks(run) == {COMMITTED}


def test_objects_that_were_lost_there_are_put_up_again(run):
    with remote_output(run) as path:
        write(path, a="1", b="1")
    delete_object(run.child("a"))
    write_object(run.child("b"), b"cut off")
    with remote_output(run):
        pass
    assert files(fetch(run)) == {"a": b"1", "b": b"1"}


@pytest.mark.parametrize("content", [None, b"2"])
def test_a_result_that_was_changed_there_is_not_taken_on_another_machine(content, run, other_machine):
    with remote_output(run) as path:
        write(path, a="1")
    if content is None:
        delete_object(run.child("a"))
    else:
        write_object(run.child("a"), content)
    other_machine()
    for _ in range(2):
        with (
            pytest.raises(ValueError, match=f"{run}/a is not what was committed: .* remove {run} to make it anew"),
            remote_output(run),
        ):
            pytest.fail("it began")


def test_other_peoples_objects_are_not_touched(run):
    write_object(run.child("theirs"), b"x")
    with pytest.raises(ValueError, match=f"{run} has objects that no ltdiff command wrote"), remote_output(run):
        pytest.fail("it began")
    assert contents(run) == {"theirs": b"x"}


def test_a_command_that_writes_nothing_leaves_nothing(run):
    with remote_output(run):
        pass
    stop_after_writing(run)
    assert contents(run) == {}


@pytest.mark.parametrize("name", ["pairs.parquet", "pairs"])
def test_one_file_is_one_object(name, bucket):
    for text in ("1", "22"):
        with remote_output(bucket.child(name)) as path:
            assert not path.exists()
            path.write_text(text)
        assert contents(bucket) == {name: text.encode()}
    with suppress(Stop), remote_output(bucket.child(name)) as path:
        path.write_text("half")
        raise Stop
    assert contents(bucket) == {name: b"22"}


def test_one_command_on_a_machine_at_a_time(run):
    with (
        remote_output(run),
        pytest.raises(ValueError, match=rf"^{run} is being written by process {os.getpid()} on .*: wait for it"),
        remote_output(run),
    ):
        pytest.fail("it began")


def test_a_database_is_whole_while_it_is_written(run, other_machine):
    with suppress(Stop), remote_output(run) as path:
        path.mkdir(parents=True)
        with closing(sqlite3.connect(path / "study.db")) as database:
            database.execute("CREATE TABLE trials (number)")
            database.commit()
            database.execute("INSERT INTO trials VALUES (1)")  # not committed
            assert list(path.glob("*-journal"))
            raise Stop
    other_machine()
    with remote_output(run) as path, closing(sqlite3.connect(path / "study.db")) as database:
        assert set(files(path)) == {"study.db"}
        assert database.execute("SELECT * FROM trials").fetchall() == []


def test_a_whole_bucket_is_refused(bucket):
    with pytest.raises(ValueError, match="is a whole bucket"), remote_output(bucket):
        pytest.fail("it began")


@pytest.mark.parametrize("name", ["run", "pairs.parquet"])
def test_without_a_bucket_nothing_is_begun(name, bucket):
    with pytest.raises(ValueError, match="there is no bucket 'no-such-bucket'"), remote_output(Url("s3", "no-such-bucket", name)):
        pytest.fail("it began")


def test_a_commit_that_fails_is_an_error(run, monkeypatch):
    monkeypatch.setattr(remote_output_module, "PATIENCE_S", 0)

    def lose_the_server(path):
        write(path, a="1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        forget_connections()

    with pytest.raises(ValueError, match="the storage does not answer"), remote_output(run) as path:
        lose_the_server(path)
    assert path.is_dir()  # the same command goes on
