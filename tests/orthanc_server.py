"""A real PACS for tests: Orthanc (Debian: orthanc) on this machine alone, behind a password."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow_servers import free_port

USER, PASSWORD = "reader", "secret"


@dataclass(frozen=True)
class Pacs:
    """Orthanc's REST interface."""

    address: str

    def call(self, path: str, data: bytes | None = None, *, password: str = PASSWORD) -> bytes:
        """What GET, or POST of `data`, answers. Raises urllib.error.HTTPError."""
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        request = urllib.request.Request(f"{self.address}{path}", data=data, headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def store(self, file: Path) -> str:
        """Store a file, and return what the server calls it."""
        answer = json.loads(self.call("/instances", file.read_bytes()))
        assert answer["Status"] == "Success"
        return answer["ID"]


@contextmanager
def orthanc(folder: Path) -> Iterator[Pacs]:
    """An empty server that keeps its files in `folder`. Skips the test where Orthanc is not installed."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc (Debian: orthanc) is not installed")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    pacs = Pacs(f"http://127.0.0.1:{port}")
    try:
        end = time.monotonic() + 60
        while True:
            try:
                pacs.call("/system")
                break
            except urllib.error.URLError:
                assert server.poll() is None, (folder / "log.txt").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
        yield pacs
    finally:
        server.terminate()
        server.wait(30)
