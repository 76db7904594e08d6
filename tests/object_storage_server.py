"""An S3 server for tests: moto, in a process of its own, on loopback. It keeps everything in memory."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs

from ltdiff.system import object_storage
from ltdiff.system.storage_url import Url

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
BUCKET = "archive"


@contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """The address of a server that runs until the block ends; it has told that it listens."""
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    ) as server:
        try:
            assert server.stdout is not None
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            server.kill()


def make_bucket(address: str, bucket: str) -> None:
    options = {"endpoint_override": address.removeprefix("http://"), "scheme": "http", "allow_bucket_creation": True}
    fs.S3FileSystem(access_key="reader", secret_key="secret", region="us-east-1", **options).create_dir(bucket)


def put(url: Url, content: bytes = b"") -> None:
    object_storage.write_object(url, content)


def contents(url: Url) -> dict[str, bytes]:
    """Of all objects below a folder, by name."""
    return {name: object_storage.read_object(url.child(name)) for name in object_storage.list_objects(url)}
