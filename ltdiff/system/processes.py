"""Processes that end when they should: this one at SIGTERM, and those that it starts with it."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import override

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class OwnProcesses(ProcessPoolExecutor):
    """A pool of fresh processes (a fork would inherit threads), which end with this one, even if it is killed.

    `start` is called in each of them first. An error or signal that leaves the block ends them at once. Ctrl-C is for this
    process alone, which decides what becomes of them.
    """

    def __init__(self, num_workers: int, *, start: Callable[[], object] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(num_workers, mp_context=context, initializer=_start, initargs=(start,))

    @override
    def submit(self, function: Callable[..., Result], /, *args: Any, **options: Any) -> Future[Result]:
        """Python starts a process after it has woken the thread that waits for all of them, which may then miss its death."""
        future = super().submit(function, *args, **options)
        with self._shutdown_lock:
            self._executor_manager_thread_wakeup.wakeup()
        return future

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            for process in list(self._processes.values()):
                process.kill()
        self.shutdown(cancel_futures=True)
        return None


def _start(start: Callable[[], object] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # its pipes would keep this process waiting for ever
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if start is not None:
        start()


@contextmanager
def exit_on_sigterm(before: Callable[[], None] | None = None) -> Iterator[None]:
    """On SIGTERM (`ray job stop`, a scheduler) call `before`, leave the block and end with exit code 143.

    While Ray starts it has a handler of its own, by which the exit code is 15, and afterwards one that prints a stack and aborts:
    so this is to be entered again then. While it waits for a result, Ray turns what a handler raises into an exit with code 1.

    Raises:
        SystemExit: SIGTERM came (143).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # nobody but the main thread can handle signals
        return
    told_to_stop = False

    def stop(signal_number: int, _: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        logger.warning("ending at SIGTERM; the same command goes on")
        if before is not None:
            before()
        sys.exit(128 + signal_number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit as ending:
        if not told_to_stop and ending.code != signal.SIGTERM:
            raise
        raise SystemExit(128 + signal.SIGTERM) from ending
    finally:
        signal.signal(signal.SIGTERM, previous)
