"""Objects of a real S3 server: written, read, and what is said when that fails."""

import hashlib
import socket

import boto3
import pytest
from object_storage_server import contents, forget_connections, s3_server

from ltdiff.system import object_storage
from ltdiff.system.object_storage import (
    CHUNK_BYTES,
    Stamp,
    check_bucket,
    delete_object,
    find,
    find_all,
    for_each,
    get_file,
    list_objects,
    put_file,
    read_object,
    write_object,
)
from ltdiff.system.storage_url import Url


@pytest.mark.parametrize("num_bytes", [0, 1, CHUNK_BYTES + 1])
def test_a_file_comes_back(num_bytes, bucket, tmp_path):
    (tmp_path / "file").write_bytes(content := b"x" * num_bytes)
    url, copy = bucket.child("a/b"), tmp_path / "new" / "copy"
    sha256 = hashlib.sha256(content).hexdigest()
    assert put_file(tmp_path / "file", url) == (num_bytes, sha256)
    stamp = find(url)
    assert get_file(url, copy, stamp) == sha256
    assert copy.read_bytes() == content
    assert Stamp.of_file(copy) == stamp


def test_what_is_there(bucket):
    write_object(bucket.child("a/one"), b"1")
    write_object(bucket.child("a/deep/er"), b"22")
    assert {name: stamp.size for name, stamp in list_objects(bucket.child("a")).items()} == {"one": 1, "deep/er": 2}
    assert find(bucket.child("a")) is None  # a folder
    assert [stamp and stamp.size for stamp in find_all([bucket.child("a/one"), bucket.child("b")])] == [1, None]
    assert list_objects(bucket.child("b")) == {}
    delete_object(bucket.child("a/one"))
    delete_object(bucket.child("a/one"))
    assert contents(bucket) == {"a/deep/er": b"22"}


def test_an_object_that_is_another_one_by_now_is_not_taken(bucket, tmp_path):
    write_object(bucket.child("x"), b"old")
    stamp = find(bucket.child("x"))
    write_object(bucket.child("x"), b"newer")
    with pytest.raises(ValueError, match=f"{bucket}/x was changed while it was read"):
        get_file(bucket.child("x"), tmp_path / "x", stamp)
    assert not (tmp_path / "x").exists()


def test_an_object_that_is_replaced_between_two_chunks_is_not_taken(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(object_storage, "CHUNK_BYTES", 2)
    write_object(bucket.child("x"), b"aabb")
    stamp = find(bucket.child("x"))
    with pytest.raises(ValueError, match="was changed while it was read"):
        get_file(bucket.child("x"), tmp_path / "x", Stamp(stamp.size, stamp.mtime_ns - 1))


@pytest.mark.parametrize("use", [check_bucket, lambda url: write_object(url, b"x")])
def test_a_bucket_that_is_missing(use, bucket):
    with pytest.raises(ValueError, match=r"^s3://no-such-bucket/x: there is no bucket 'no-such-bucket'$"):
        use(Url("s3", "no-such-bucket", "x"))


def test_wrong_credentials_are_said_and_not_shown(bucket, monkeypatch):
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="0") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong secret")
        forget_connections()
        for use in (find, list_objects, check_bucket, read_object, lambda url: write_object(url, b"x")):
            with pytest.raises(ValueError, match="access is denied: check AWS_ACCESS_KEY_ID") as caught:
                use(bucket.child("x"))
            assert "wrong secret" not in str(caught.value)


def test_a_server_that_is_not_there(bucket, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        forget_connections()
        with pytest.raises(ValueError, match=f"the storage does not answer at {address} .AWS_ENDPOINT_URL."):
            find(bucket.child("x"))


def test_azure_needs_an_account(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    forget_connections()
    with pytest.raises(ValueError, match="set AZURE_STORAGE_ACCOUNT"):
        find(Url("az", "container", "x"))


def test_the_name_of_an_object_cannot_lead_out_of_its_copy(bucket, s3_address):
    account = {"aws_access_key_id": "reader", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_address, **account)
    client.put_object(Bucket=bucket.bucket, Key="a/../../b", Body=b"x")
    with pytest.raises(ValueError, match="has a name that no file can have"):
        list_objects(bucket)


def test_a_failure_among_many_transfers_is_raised():
    with pytest.raises(ZeroDivisionError):
        for_each(range(100), lambda number: 1 / (number - 50), name="x")
