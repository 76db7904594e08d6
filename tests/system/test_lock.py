"""One writer at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltdiff.system.lock import LOCK_FILE, only_writer

HOLD = "import sys, time; from pathlib import Path; from ltdiff.system.lock import only_writer\n"
HOLD += "with only_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_job_is_refused_naming_the_first_and_a_dead_one_holds_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as job:
        assert job.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"is being written by process {job.pid} on "), only_writer(tmp_path / "out"):
            pass
        job.kill()
        job.wait()
        with only_writer(tmp_path / "out"):
            pass


def test_one_job_after_the_other(tmp_path):
    for _ in range(2):
        with only_writer(tmp_path / "a" / "b"):
            assert str(os.getpid()) in (tmp_path / "a" / "b" / ".ltdiff.lock").read_text()


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is no folder"), only_writer(tmp_path / "out"):
        pass


@pytest.fixture
def victim(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_text("precious")
    yield tmp_path / "victim"
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_the_lock_empties_no_other_file(victim, tmp_path, plant):
    plant(tmp_path / "out" / LOCK_FILE, victim)
    with pytest.raises(ValueError, match=r"\.ltdiff\.lock .*: remove it") as refused, only_writer(tmp_path / "out"):
        pass
    assert "precious" not in str(refused.value)


def test_the_lock_makes_no_file_elsewhere(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK_FILE).symlink_to(tmp_path / "new")
    with pytest.raises(ValueError, match="is a link"), only_writer(tmp_path / "out"):
        pass
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("plant", [Path.mkdir, os.mkfifo])
def test_a_lock_that_is_no_file_is_refused_at_once(tmp_path, plant):
    plant(tmp_path / LOCK_FILE)
    with pytest.raises(ValueError, match="remove it"), only_writer(tmp_path):
        pass
