"""Processes that end when they should, tried with real ones."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
POOL = """
import os, sys, time
from ltdiff.system.processes import OwnProcesses, exit_on_sigterm

def work(number):
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece: two share the pipe
    time.sleep(600)

def fail(number):
    raise ZeroDivisionError

if __name__ == "__main__":
    with exit_on_sigterm(), OwnProcesses(2) as pool:
        busy = [pool.submit(work, number) for number in range(2)]
        os.write(1, b"0\\n")  # from here on it waits: Python drops a Ctrl-C that comes while it cleans up inside a call
        if "fail" in sys.argv:
            sys.stdin.readline()
            raise ZeroDivisionError
        busy[0].result()
"""


@pytest.fixture
def pool(tmp_path, request):
    """A program whose two workers are busy, and their process numbers."""
    (tmp_path / "program.py").write_text(POOL)
    command = [sys.executable, "program.py", *request.param]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes) as program:
        numbers = [int(program.stdout.readline()) for _ in range(3)]
        workers = [psutil.Process(number) for number in numbers if number]
        yield program, workers
        program.kill()


@pytest.mark.parametrize(
    ("pool", "number", "code"),
    [
        ([], signal.SIGKILL, -signal.SIGKILL),
        ([], signal.SIGTERM, 128 + signal.SIGTERM),
        ([], signal.SIGINT, -signal.SIGINT),
        (["fail"], None, 1),
    ],
    indirect=["pool"],
)
def test_workers_end_with_the_program_whatever_ends_it(pool, number, code):
    program, workers = pool
    if number is None:
        program.stdin.write("go on\n")
        program.stdin.flush()
    else:
        program.send_signal(number)
    assert program.wait() == code
    for worker in workers:
        worker.wait()


@pytest.mark.parametrize("pool", [[]], indirect=True)
def test_ctrl_c_in_a_worker_is_for_the_program_to_decide(pool):
    program, workers = pool
    workers[0].send_signal(signal.SIGINT)
    workers[1].send_signal(signal.SIGKILL)
    assert program.wait() == 1  # the pool is broken, by the second


STOPPED = """
import signal, sys, threading
from ltdiff.system.processes import exit_on_sigterm

def ray(number, frame):  # as Ray's own handler does while it starts
    sys.exit(number)

with exit_on_sigterm():
    if "ray" in sys.argv:
        signal.signal(signal.SIGTERM, ray)
    try:
        print("waiting", flush=True)
        threading.Event().wait()
    finally:
        print("cleared up", flush=True)
"""


@pytest.mark.parametrize("arguments", [[], ["ray"]])
def test_sigterm_leaves_all_blocks_and_is_exit_code_143(arguments):
    command = [sys.executable, "-c", STOPPED, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "waiting\n"
        program.terminate()
        assert program.stdout.readline() == "cleared up\n"
        assert program.wait() == 128 + signal.SIGTERM
