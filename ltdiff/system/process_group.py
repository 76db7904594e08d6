"""Another program in a process group of its own, which ends with it: on a time-out, on Ctrl-C and on SIGTERM."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE_S = 5.0
"""From SIGTERM, at which a program may tidy up, to SIGKILL."""
OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables that would lead a Python of another environment to the packages of this one."""


def run_program(command: Sequence[str], *, timeout_s: float, output: Path) -> int:
    """Run a program, with what it prints in the file `output`, and return its exit code (−9: ended by signal 9).

    It has no input and not the variables OF_THIS_PYTHON. What it started and left behind is ended, too.

    Raises:
        subprocess.TimeoutExpired: it was ended because it took longer.
        OSError: it cannot be started.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_THIS_PYTHON}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    try:
        return process.wait(timeout_s)
    except BaseException:
        _signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        raise
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(process.pid, number)
