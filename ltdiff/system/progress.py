"""Log lines and progress of a long command: a bar in a terminal, elsewhere a line now and then; with the time left."""

import logging
import os
import sys
from collections.abc import Iterable
from io import StringIO
from operator import length_hint
from typing import Any

from tqdm import tqdm
from typing_extensions import override

from ltdiff.system.storage_url import with_urls

logger = logging.getLogger(__name__)

LINE_EVERY_S = 10.0
"""Shortest time between two lines of progress."""
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left"
LINE_WITHOUT_END = "{desc}: {n_fmt} {unit}s, {rate_fmt}"
"""Progress where there is no terminal, in the words of tqdm; the second where nobody knows how many there will be."""


def configure_logging(*, force: bool = False) -> None:
    """Write the package's log lines and other packages' warnings to stderr, with the time of day.

    `force` replaces the handlers that are there, as in a worker of Ray Train. Before Ray is imported, this also drops its prefix
    "(RayTrainWorker pid=…)" from what workers print.
    """
    os.environ.setdefault("RAY_DISABLE_WORKER_LOG_PREFIX", "1")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[_Handler()], force=force)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("ltdiff").setLevel(logging.INFO)


def progress(items: Iterable[Any] = (), *, name: str, unit: str, total: int | None = None, is_shown: bool = True) -> "tqdm[Any]":
    """Pass `items` on and show how many are done and how long the others will take.

    Without `items` it is a context manager, whose `update` counts. What takes less than `LINE_EVERY_S` writes no line.
    """
    if not is_shown:
        return tqdm(items, disable=True)
    if sys.stderr.isatty():
        return tqdm(items, desc=name, unit=unit, total=total)
    often: dict[str, Any] = {"mininterval": LINE_EVERY_S, "delay": LINE_EVERY_S, "miniters": 1}
    line = LINE if total or length_hint(items) else LINE_WITHOUT_END
    line = line.replace("{unit}s", "{unit}") if unit.endswith("s") else line  # series
    return tqdm(items, desc=name, unit=unit, total=total, file=_LogLines(), bar_format=line, **often)


def duration(seconds: float) -> str:
    """Minutes and seconds: `3 min 05 s`."""
    return "{} min {:02d} s".format(*divmod(round(seconds), 60))


class _Handler(logging.StreamHandler[Any]):
    """Writes above a progress bar, not into it; local copies of objects are called by their URLs."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return with_urls(super().format(record))

    @override
    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class _LogLines(StringIO):
    """What tqdm writes becomes log lines; the last one, which it may write twice, is one."""

    last = ""

    @override
    def write(self, text: str) -> int:
        line = text.strip()
        if line and line != self.last:
            logger.info("%s", line)
            self.last = line
        return len(text)
