"""Exceptions that nobody foresaw: where they were raised, in a file that can be sent to whoever can mend it."""

import os
import tempfile
import traceback
from functools import cache
from pathlib import Path


def describe_unforeseen(error: BaseException) -> str:
    """The rest of a sentence that begins with what was being read.

    Neither it nor the trace has the exception's own text, which may quote a header.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"
    try:
        path = _trace_file(os.getpid())
        with path.open("a") as file:
            file.writelines([f"{place}\n", *traceback.format_list(frames), "\n"])
    except OSError:  # no space for it
        return f"met an error that ltdiff does not foresee: {place}"
    return f"met an error that ltdiff does not foresee: {place}; please report {path}"


@cache
def _trace_file(pid: int) -> Path:
    """A new file of this process, which nobody else can have put there."""
    handle, name = tempfile.mkstemp(prefix=f"ltdiff-trace-{pid}-", suffix=".txt")
    os.close(handle)
    return Path(name)
