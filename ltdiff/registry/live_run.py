"""A run in MLflow while it lasts: it is there from the beginning, and its figures follow with their steps and times.

A thread writes beside the work, which never waits for it but at its end, and then not for long. What MLflow does not take is
tried again with the next update; after the end, `runs.log_run` adds what is missing.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ltdiff.registry.client import MlflowClient, first_line, open_client
from ltdiff.registry.runs import SETTINGS_FILE, TIME, RunFacts, Status, begin_run, log_figures, make_figures, set_status

UPDATE_EVERY_S = 10.0
LAST_UPDATE_S = 60.0
"""Longest wait for the last update; more than a server that hangs is given."""

logger = logging.getLogger(__name__)


class LiveRun:
    """A run that is not finished, as MLflow knows it; one that MLflow calls finished is left alone."""

    def __init__(self, facts: RunFacts, *, read_history: Callable[[], Sequence[Mapping[str, Any]]], tracking_uri: str) -> None:
        """`read_history` reads the rows of figures that there are, each with its step and time; there are ever more of them."""
        self.facts, self.read_history, self.tracking_uri = facts, read_history, tracking_uri
        self.run: Any = None
        self.status = ""
        self.num_logged = 0
        self.is_down = False
        self.has_settings = False

    def update(self, status: Status) -> None:
        """Log what is new, and the status; one warning where MLflow does not take it, until it does."""
        try:
            with open_client(self.tracking_uri) as client:
                self._log(client, status)
            self.is_down = False
        except Exception as error:  # whatever a database, an object store or MLflow itself raises: the work goes on
            if not self.is_down:
                logger.warning(
                    "MLflow does not take the figures of %s; they are kept, and logged when it does. Cause: %s",
                    self.facts.name,
                    first_line(error),
                )
            self.is_down = True

    def _log(self, client: MlflowClient, status: Status) -> None:
        history = self.read_history()
        if self.run is None:
            self.run = begin_run(client, self.tracking_uri, self.facts, begun_s=min((row[TIME] for row in history), default=None))
            self.status = self.run.info.status
        if self.status == "FINISHED":
            return
        run_id = self.run.info.run_id
        if status != self.status:
            set_status(client, run_id, status)
            self.status = status
        figures = make_figures(history)
        log_figures(client, self.run, figures[self.num_logged :])
        self.num_logged = len(figures)
        if not self.has_settings:
            client.log_text(run_id, self.facts.settings_text, SETTINGS_FILE)
            self.has_settings = True


@contextmanager
def watch(live_run: LiveRun, *, is_done: Callable[[], bool]) -> Iterator[None]:
    """Keep a run in MLflow up to date while the block runs.

    It is FAILED where the block raises, KILLED where it is told to end; RUNNING if it then `is_done` but for what follows, and
    else SCHEDULED.
    """
    ended = threading.Event()
    last: list[Status] = ["RUNNING"]

    def work() -> None:
        live_run.update("RUNNING")
        while not ended.wait(UPDATE_EVERY_S):
            live_run.update("RUNNING")
        live_run.update(last[0])

    thread = threading.Thread(target=work, name="mlflow-live", daemon=True)
    thread.start()
    last[0] = "FAILED"
    try:
        yield
        last[0] = "RUNNING" if is_done() else "SCHEDULED"
    except (KeyboardInterrupt, SystemExit):
        last[0] = "KILLED"
        raise
    finally:
        ended.set()
        thread.join(0.0 if live_run.is_down else LAST_UPDATE_S)
