"""A program and all that it starts end together."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ltdiff.system.process_group import run_program

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]])
open(sys.argv[1], "w").close()
time.sleep(float(sys.argv[2]))
"""


def wait_for_the_end(name: Path) -> None:
    """Of all processes that have this argument."""
    while any(str(name) in line.decode(errors="replace") for line in command_lines()):
        time.sleep(0.02)


def command_lines() -> list[bytes]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.append(path.read_bytes())
    return lines


def test_exit_code_and_output(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/ltdiff")
    code = "import os, sys; print('PYTHONPATH' in os.environ, sys.stdin.read()); print('bad', file=sys.stderr); sys.exit(3)"
    assert run_program([sys.executable, "-c", code], timeout_s=60, output=tmp_path / "out") == 3
    assert set((tmp_path / "out").read_text().splitlines()) == {"False ", "bad"}


def test_a_time_out_ends_the_children_too(tmp_path):
    def run() -> None:
        run_program([sys.executable, "-c", FAMILY, str(tmp_path / "family"), "600"], timeout_s=1.5, output=tmp_path / "out")

    with pytest.raises(subprocess.TimeoutExpired):
        run()
    wait_for_the_end(tmp_path / "family")


def test_what_a_program_leaves_behind_is_ended(tmp_path):
    assert run_program([sys.executable, "-c", FAMILY, str(tmp_path / "family"), "0"], timeout_s=60, output=tmp_path / "out") == 0
    wait_for_the_end(tmp_path / "family")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it(tmp_path, number):
    code = f"""
import sys
from pathlib import Path
from ltdiff.system.process_group import run_program
from ltdiff.system.processes import exit_on_sigterm
with exit_on_sigterm():
    command = [sys.executable, "-c", {FAMILY!r}, {str(tmp_path / "family")!r}, "600"]
    run_program(command, timeout_s=600, output=Path({os.devnull!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not (tmp_path / "family").exists():
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) != 0
    wait_for_the_end(tmp_path / "family")
