"""An S3 server for tests: moto, in a process of its own, on loopback. It keeps everything in memory."""

import itertools
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from ltdiff.system import object_storage, remote_input
from ltdiff.system.object_storage import list_objects, read_object
from ltdiff.system.storage_url import Url

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
_numbers = itertools.count()


@contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """The address of a server that runs until the block ends; it has said that it listens."""
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as server:
        try:
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            threading.Thread(target=deque, args=(server.stdout, 0), daemon=True).start()  # a full pipe would stop it
            yield address
        finally:
            server.kill()


def make_bucket(address: str) -> Url:
    """A new bucket."""
    endpoint = {"endpoint_override": address.removeprefix("http://"), "scheme": "http"}
    bucket = f"bucket{next(_numbers)}"
    account = {"access_key": "reader", "secret_key": "secret", "region": "us-east-1"}
    fs.S3FileSystem(**account, **endpoint, allow_bucket_creation=True).create_dir(bucket)
    return Url("s3", bucket)


def forget_connections() -> None:
    """So that another environment counts."""
    object_storage._filesystem.cache_clear()
    remote_input._fetch_once.cache_clear()


def contents(url: Url) -> dict[str, bytes]:
    """Of all objects below a folder, by name."""
    return {name: read_object(url.child(name)) for name in list_objects(url)}


def files(folder: Path) -> dict[str, bytes]:
    """Contents of all files below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
