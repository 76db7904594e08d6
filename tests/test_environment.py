"""Environment variables for a block: there inside, also for other processes, and as before afterwards, whatever happened."""

import os
import subprocess
import sys

import pytest

from ltdiff.environment import environment

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
