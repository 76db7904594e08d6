"""What a private Ray left is ended and removed: here by processes that only bear its mark."""

import os
import subprocess
import sys

import psutil
import pytest

from ltdiff.system import ray_reaper
from ltdiff.system.ray_reaper import MARK

FAMILY = """
import subprocess, sys, time
if len(sys.argv) > 1:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def reaper(tmp_path):
    (tmp_path / "ray" / "logs").mkdir(parents=True)
    command = [sys.executable, ray_reaper.__file__, str(tmp_path / "ray")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def start():
    """Start a process with the mark of a folder, or with none; its standard output says what its child is."""
    started = []

    def start(folder, *arguments):
        environment = os.environ | ({MARK: str(folder)} if folder else {})
        command = [sys.executable, "-c", FAMILY, *arguments]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_all_with_its_mark_end_and_no_others(reaper, start, tmp_path):
    parent, stranger, other = start(tmp_path / "ray", "with a child"), start(None), start(tmp_path / "ray2")
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.poll() is None
    reaper.stdin.close()  # as when whoever started it is killed
    assert reaper.wait() == 0
    assert parent.wait() == -9
    child.wait()
    assert (stranger.poll(), other.poll()) == (None, None)
    assert not (tmp_path / "ray").exists()
