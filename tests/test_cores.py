"""Cores for this process: the machine's, fewer under `taskset` or in a container with a limit."""

import os

import pytest

from ltdiff import cores
from ltdiff.cores import num_cores


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.mark.parametrize(
    ("limit", "expected"), [("max 100000", 2), ("400000 100000", 2), ("150000 100000", 1), ("20000 100000", 1)]
)
def test_a_container_gets_whole_cores_of_its_quota_and_at_least_one(tmp_path, monkeypatch, two_cores, limit, expected):
    monkeypatch.setattr(cores, "CPU_MAX", tmp_path / "cpu.max")
    cores.CPU_MAX.write_text(f"{limit}\n")
    assert num_cores() == expected


def test_without_a_container_they_are_those_of_the_process(tmp_path, monkeypatch, two_cores):
    monkeypatch.setattr(cores, "CPU_MAX", tmp_path / "none")
    assert num_cores() == 2
