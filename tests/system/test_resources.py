"""Cores, freed memory, environment variables."""

import ctypes
import os
import subprocess
import sys
from functools import partial

import pytest

from ltdiff.system import resources
from ltdiff.system.resources import environment, num_cores


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.fixture
def cgroups(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "OWN_CGROUPS", tmp_path / "own")
    resources.CGROUPS.mkdir()
    return resources.CGROUPS


@pytest.mark.parametrize(
    ("limit", "expected"), [("max 100000", 2), ("400000 100000", 2), ("150000 100000", 1), ("20000 100000", 1)]
)
@pytest.mark.parametrize("place", ["", "jobs", "jobs/mine"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_container_gets_whole_cores_of_its_quota_and_at_least_one(cgroups, two_cores, limit, expected, place, version):
    """The limit may be its own or that of a group around it."""
    quota, period = limit.split()
    folder = cgroups / ("cpu,cpuacct" if version == 1 else "") / place
    if version == 2:
        resources.OWN_CGROUPS.write_text("0::/jobs/mine\n")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{limit}\n")
    else:
        resources.OWN_CGROUPS.write_text("5:memory:/other\n4:cpu,cpuacct:/jobs/mine\n1:name=systemd:/a:b\n")
        (cgroups / "cpu").symlink_to("cpu,cpuacct")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.cfs_quota_us").write_text(f"{-1 if quota == 'max' else quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    assert num_cores() == expected


@pytest.mark.parametrize("listed", [None, "", "0::/gone\n"])
def test_without_a_container_they_are_those_of_the_process(cgroups, two_cores, listed):
    if listed is not None:
        resources.OWN_CGROUPS.write_text(listed)
    assert num_cores() == 2


def test_threads_that_wait_do_not_spin():
    """Beside another busy process a thread that spins takes the core that the one it waits for would need."""
    code = "import ltdiff, os, torch; print(os.environ['OMP_WAIT_POLICY'])"
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run(env=clean).stdout == "passive\n"
    assert run(env=clean | {"OMP_WAIT_POLICY": "active"}).stdout == "active\n"  # whoever has the machine alone may say so


NUM_BLOCKS, BLOCK_BYTES, PAGE_BYTES = 100, 64 * 2**20, 4096
COUNT_FAULTS = f"""
import resource, torch
from ltdiff.system.resources import keep_freed_memory
if {{keep}}:
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones({BLOCK_BYTES}, dtype=torch.uint8)
before = faults()
for _ in range({NUM_BLOCKS}):
    torch.ones({BLOCK_BYTES}, dtype=torch.uint8)
print(faults() - before)
"""


def count_faults(*, keep: bool) -> int:
    command = [sys.executable, "-c", COUNT_FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_blocks_that_are_needed_again_and_again_are_not_cleared_each_time():
    faults = count_faults(keep=False)
    if faults < NUM_BLOCKS * BLOCK_BYTES / PAGE_BYTES / 2:
        pytest.skip("this process's malloc keeps large blocks anyway, or pages are huge")
    assert count_faults(keep=True) < faults / 5


PRINT = "import os; print(os.environ.get('LTDIFF_ONE'), os.environ.get('LTDIFF_TWO'))"


def in_another_process() -> str:
    return subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True).stdout.strip()


def test_other_processes_have_them_too_and_afterwards_all_is_as_before(monkeypatch):
    monkeypatch.setenv("LTDIFF_ONE", "before")
    monkeypatch.delenv("LTDIFF_TWO", raising=False)
    with environment({"LTDIFF_ONE": "inside", "LTDIFF_TWO": "inside"}):
        assert in_another_process() == "inside inside"
    assert in_another_process() == "before None"


def test_an_error_leaves_nothing_behind(monkeypatch):
    monkeypatch.delenv("LTDIFF_ONE", raising=False)
    with pytest.raises(ZeroDivisionError), environment({"LTDIFF_ONE": "inside"}):
        raise ZeroDivisionError
    assert "LTDIFF_ONE" not in os.environ


def test_one_that_is_deleted_inside_does_no_harm(monkeypatch):
    monkeypatch.delenv("LTDIFF_ONE", raising=False)
    with environment({"LTDIFF_ONE": "inside"}):
        del os.environ["LTDIFF_ONE"]
    assert "LTDIFF_ONE" not in os.environ
