"""Ends what a private Ray has left, even of a process that was killed. A program of its own: `python ray_reaper.py FOLDER`.

Ray's own processes notice too late, or not at all while they start, that the process is gone which started them. All of them have
`MARK` in their environment, with the folder of their Ray. This program waits for the end of its input, whose other end that
process holds, then ends every process with this mark, and removes the folder.
"""

import shutil
import signal
import sys

import psutil

MARK = "LTDIFF_RAY"
"""Environment variable of the processes of a private Ray: its folder."""
PATIENCE_S = 1.0
MAX_ROUNDS = 60
"""For a process that the kernel does not let end, as in a hanging network mount."""


def main(folder: str) -> None:
    """Wait for the end of the input, then clear up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for _ in range(MAX_ROUNDS):  # while they are listed, they may start others
        marked = find_marked(folder)
        if not marked:
            break
        for process in marked:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(marked, timeout=PATIENCE_S)
    shutil.rmtree(folder, ignore_errors=True)


def find_marked(folder: str) -> list[psutil.Process]:
    """All processes of the Ray in `folder` that are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == folder:
                found.append(process)
        except psutil.Error:  # it has ended, or is somebody else's
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1])
