"""What a folder of object storage says of itself."""

import pytest

from ltdiff.system.commit_object import (
    COMMITTED,
    WRITING,
    Snapshot,
    read_snapshot,
    read_snapshot_around,
    this_process,
    write_snapshot,
)
from ltdiff.system.object_storage import write_object
from ltdiff.system.storage_url import Url

FILES = {"model/a": (3, "aa"), "model/deep/b": (4, "bb"), "model.json": (5, "cc")}


def test_it_is_read_as_it_was_written_also_from_within(bucket):
    run = bucket.child("runs/first")
    write_snapshot(run, COMMITTED, number="7", files=FILES)
    expected = Snapshot(run, COMMITTED, "7", this_process(), FILES)
    assert read_snapshot(run) == read_snapshot_around(run.child("model/a")) == expected
    assert read_snapshot(run.child("model")) is None
    assert read_snapshot_around(bucket.child("runs/second")) is None


def test_a_commit_counts_more_than_what_is_left_of_writing_it(bucket):
    write_snapshot(bucket.child("run"), WRITING, number="1", files={})
    assert not read_snapshot(bucket.child("run")).is_committed
    write_snapshot(bucket.child("run"), COMMITTED, number="2", files=FILES)
    assert read_snapshot(bucket.child("run")).is_committed


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("run", set(FILES)),
        ("run/model", {"a", "deep/b"}),
        ("run/model/deep/b", {""}),
        ("run/model.json", {""}),
        ("run/mod", set()),
    ],
)
def test_the_files_below_a_folder(key, names):
    snapshot = Snapshot(Url("s3", "b", "run"), COMMITTED, "1", "", FILES)
    assert set(snapshot.below(Url("s3", "b", key))) == names


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "number": "1", "writer": "x", "files": {"a": 3}}']
)
def test_one_that_is_damaged_is_named(content, bucket):
    write_object(bucket.child("run/_COMMITTED"), content)
    with pytest.raises(ValueError, match=f"{bucket}/run/_COMMITTED is damaged, or of another version"):
        read_snapshot(bucket.child("run"))
