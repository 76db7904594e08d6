"""A real S3 server that refuses, cuts, hangs or goes away and comes back: nothing is lost, nothing half is taken for whole."""

import os
import time
from contextlib import ExitStack

import boto3
import pytest
from failing_storage import CUT, SILENT, failing_storage
from object_storage_server import files, forget_connections

from ltdiff.system import remote_output as remote_output_module
from ltdiff.system.commit_object import COMMITTED, WRITING
from ltdiff.system.object_storage import list_objects, read_object, write_object
from ltdiff.system.remote_input import fetch
from ltdiff.system.remote_output import remote_output

CONTENTS = {f"file{number}": os.urandom(1000 + number) for number in range(3)}


@pytest.fixture
def proxy(bucket, s3_address, monkeypatch):
    """The way to the server of `bucket`, which the environment names in its place."""
    with failing_storage(s3_address) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        forget_connections()
        yield proxy


@pytest.fixture
def often(monkeypatch):
    """Files are put up many times in a second."""
    monkeypatch.setattr(remote_output_module, "PUT_EVERY_S", 0.02)


@pytest.fixture
def impatient(monkeypatch):
    """What cannot be put up at the end is not tried again."""
    monkeypatch.setattr(remote_output_module, "PATIENCE_S", 0)


@pytest.fixture
def run(bucket, proxy):
    return bucket.child("runs/first")


@pytest.fixture
def result(run):
    with remote_output(run) as path:
        write(path)
    return run


def write(path, *, then=lambda: None):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENTS.items():
        (path / name).write_bytes(content)
    then()


def marks(url):
    return {name for name in list_objects(url) if name.startswith("_")}


def wait_until(condition):
    deadline_s = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class Once:
    """Spoils the first request of each kind and path."""

    def __init__(self, fault):
        self.fault, self.seen = fault, set()

    def __call__(self, method, path):
        if (method, path) in self.seen:
            return None
        self.seen.add((method, path))
        return self.fault


@pytest.mark.slow
@pytest.mark.parametrize("fault", [500, 503, CUT])
def test_what_fails_once_is_tried_again(fault, proxy, run):
    proxy.fault = Once(fault)
    with remote_output(run) as path:
        write(path)
    assert proxy.refused["PUT"] >= len(CONTENTS)
    assert files(fetch(run)) == CONTENTS
    assert proxy.refused["GET"] >= len(CONTENTS)


@pytest.mark.slow
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_refuses_for_a_while_costs_warnings_alone(status, proxy, run, caplog):
    with remote_output(run) as path:
        proxy.fault = lambda method, name: status if method == "PUT" else None
        write(path)
        wait_until(lambda: "files were not put up, and will be later" in caplog.text)
        proxy.fault = lambda method, name: None
        wait_until(lambda: CONTENTS.keys() <= list_objects(run).keys())
        assert marks(run) == {WRITING}
    assert files(fetch(run)) == CONTENTS


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_a_server_that_goes_away_and_comes_back_costs_warnings_alone(proxy, run, s3_address, caplog):
    with ExitStack() as servers:
        with remote_output(run) as path:
            proxy.go_away()
            write(path)
            wait_until(lambda: f"the storage does not answer at {proxy.address}" in caplog.text)
            servers.enter_context(failing_storage(s3_address, port=proxy.server_port))
            wait_until(lambda: CONTENTS.keys() <= list_objects(run).keys())
        assert files(fetch(run)) == CONTENTS


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_server_that_is_away_when_the_command_ends_is_waited_for(method, proxy, run, monkeypatch, caplog):
    def come_back(_):
        proxy.fault = lambda method, name: None

    monkeypatch.setattr(remote_output_module.time, "sleep", come_back)
    with remote_output(run) as path:
        write(path)
        proxy.fault = lambda one, name: 503 if one == method else None
    assert caplog.text.count("the result is not complete yet, and is tried again") == 1
    assert marks(run) == {COMMITTED}
    assert files(fetch(run)) == CONTENTS


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mark", [WRITING, COMMITTED])
def test_what_cannot_be_put_up_at_the_end_is_put_up_by_the_same_command(mark, proxy, run):
    def refuse(method, name):
        return 503 if method == "PUT" and name.endswith(mark) else None

    with pytest.raises(ValueError, match=f"{run}/{mark}: the storage"), remote_output(run) as path:
        write(path, then=lambda: setattr(proxy, "fault", refuse))
    proxy.fault = lambda method, name: None
    assert marks(run) == {WRITING}
    with pytest.raises(ValueError, match="is not finished"):
        fetch(run)
    with remote_output(run) as path:
        assert files(path) == CONTENTS
    assert marks(run) == {COMMITTED}
    assert files(fetch(run)) == CONTENTS


@pytest.mark.usefixtures("impatient")
def test_an_end_that_is_not_heard_of_is_one_all_the_same(proxy, run):
    """It was committed, and the mark of its writing stays."""

    def refuse(method, _):
        return 503 if method == "DELETE" else None

    with pytest.raises(ValueError, match=f"{run}/{WRITING}: the storage"), remote_output(run) as path:
        write(path, then=lambda: setattr(proxy, "fault", refuse))
    proxy.fault = lambda method, name: None
    assert files(fetch(run)) == CONTENTS
    with remote_output(run) as path:
        assert files(path) == CONTENTS
    assert marks(run) == {COMMITTED}


@pytest.mark.parametrize("fault", [503, CUT])
def test_what_is_read_is_whole_or_not_there(fault, proxy, result, bucket):
    proxy.fault = lambda method, name: fault if method == "GET" and "/file1" in name else None
    with pytest.raises(ValueError, match=f"{result}/file1: the storage"):
        fetch(result)
    copies = bucket.copy_in("read")
    there = files(copies) if copies.is_dir() else {}
    assert there.items() <= {f"runs/first/{name}": content for name, content in CONTENTS.items()}.items()
    assert "runs/first/file1" not in there
    assert not list(copies.parents[1].glob("partial/*"))
    proxy.fault = lambda method, name: None
    assert files(fetch(result)) == CONTENTS


def test_an_object_that_is_replaced_while_it_is_read_is_whole(proxy, bucket, s3_address):
    """By a longer one, after its size was asked for: a `_WRITING` that was cut off would be called damaged."""
    client = boto3.client(
        "s3", endpoint_url=s3_address, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    contents = iter((b"2" * 20, b"3" * 30))

    def replace(method, _):
        if method == "GET" and (content := next(contents, None)):
            client.put_object(Bucket=bucket.bucket, Key="x", Body=content)

    write_object(bucket.child("x"), b"1")
    proxy.fault = replace
    assert read_object(bucket.child("x")) == b"3" * 30


@pytest.mark.slow
def test_a_server_that_falls_silent_is_given_up(proxy, result):
    """It is asked three times, for three seconds each."""
    proxy.fault = lambda method, name: SILENT
    begun_s = time.monotonic()
    with pytest.raises(ValueError, match=f"the storage does not answer at {proxy.address} "):
        fetch(result)
    assert time.monotonic() - begun_s < 100
    proxy.fault = lambda method, name: None
    assert files(fetch(result)) == CONTENTS
