"""One worker in a process beside this one: an archive of few series is done before a Ray would have started.

The process is another one all the same: a decoder's crash or a lack of memory ends it, and not the run.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from ltdiff.inference.tasks import Outcome, Task, WorkerSettings
from ltdiff.system.processes import OwnProcesses

_do: Callable[[Task, int], Outcome]
"""Of a process that `_start` has made a worker."""


def run_here(tasks: Sequence[Task], settings: WorkerSettings) -> Iterator[Outcome]:
    """Do the tasks in their order; a worker that dies is replaced, and its successor counts the attempts."""
    number = 0
    while number < len(tasks):
        with OwnProcesses(1, start=partial(_start, settings)) as pool:
            try:
                while number < len(tasks):
                    yield pool.submit(_call, tasks[number], number).result()
                    number += 1
            except BrokenProcessPool:
                pass


def _start(settings: WorkerSettings) -> None:
    from ltdiff.inference.worker import ArchiveWorker  # PyTorch, which this process alone needs

    global _do
    _do = ArchiveWorker(settings).do


def _call(task: Task, number: int) -> Outcome:
    return _do(task, number)
