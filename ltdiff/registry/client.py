"""The connection to MLflow: where it is, quiet, and never longer than a bounded time.

Where MLFLOW_TRACKING_URI is not set, MLflow is a SQLite file and a folder of artifacts inside the run folder, and no
server is needed.
"""

import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ltdiff.system.resources import environment

MlflowClient = Any  # importing MLflow takes seconds: functions do it when they are called
MAX_DELAY_S = 120.0  # the longest that a database or an object store without an answer holds up a run

_SQLITE = "sqlite:///"
# By default MLflow blocks for minutes where a server is down, and reports its use to its makers. With these, a server
# that is down or hangs is given up after 2 to 40 s. What the user has set stays as it is.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def find_tracking_uri(out: Path, tracking_uri: str | None) -> str:
    """The URI that is given, else MLFLOW_TRACKING_URI, else the SQLite file in the run folder `out`."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{out.resolve() / 'mlflow.db'}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database file of a SQLite tracking URI; None for a server."""
    return Path(tracking_uri.removeprefix(_SQLITE)) if tracking_uri.startswith(_SQLITE) else None


_QUIET = {"urllib3.connectionpool": logging.ERROR, "mlflow.store.db.utils": logging.CRITICAL}
"""Loggers that tell what we tell in one line: a warning for every attempt, a traceback where a database refuses."""


@contextmanager
def open_client(tracking_uri: str) -> Iterator[MlflowClient]:
    """An MLflow client that is quiet and gives up soon; afterwards the environment is what it was."""
    with _settings.hold():
        import mlflow

        yield mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


class _Settings:
    """MLflow's settings of this process, while any thread has a client open."""

    def __init__(self) -> None:
        self.lock, self.num_open, self.restore = threading.Lock(), 0, ExitStack()

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self.lock:
            if self.num_open == 0:
                for name, level in _QUIET.items():
                    noisy = logging.getLogger(name)
                    self.restore.callback(noisy.setLevel, noisy.level)
                    noisy.setLevel(level)
                missing = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
                self.restore.enter_context(environment(missing))
            self.num_open += 1
        try:
            yield
        finally:
            with self.lock:
                self.num_open -= 1
                if self.num_open == 0:
                    self.restore.close()


_settings = _Settings()


@contextmanager
def open_registry(tracking_uri: str | None, failure: str) -> Iterator[tuple[MlflowClient, str]]:
    """A client of the registry that is there, and its tracking URI: the given one, else MLFLOW_TRACKING_URI.

    Raises:
        ValueError: there is no registry, or whatever went wrong inside; one sentence that begins with `failure`.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ValueError(f"{failure}: set MLFLOW_TRACKING_URI to the registry, such as sqlite:////folder of a run/mlflow.db")
    database = sqlite_file(uri)
    if database is not None and not database.is_file():  # MLflow would make an empty one
        raise ValueError(f"{failure}: there is no registry at {database}")
    try:
        with open_client(uri) as client:
            yield client, uri
    except Exception as error:  # whatever a database, an object store or MLflow itself raises
        raise ValueError(f"{failure}: {first_line(error)}") from error


def attempt(action: Callable[[], _T], consequence: str) -> _T | None:
    """Run `action` and return its result; None and one warning if it raises or takes longer than `MAX_DELAY_S`."""
    outcome: queue.SimpleQueue[tuple[_T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((action(), None))
        except Exception as error:  # whatever a database, an object store or MLflow itself raises: training goes on
            outcome.put((None, error))

    threading.Thread(target=run, name="mlflow", daemon=True).start()
    try:
        result, error = outcome.get(timeout=MAX_DELAY_S)
    except queue.Empty:
        result, error = None, TimeoutError(f"no answer within {MAX_DELAY_S:.0f} s")
    if error is not None:
        logger.warning("%s; the same command, run again, does it. Cause: %s", consequence, first_line(error))
    return result


def first_line(error: Exception) -> str:
    """An exception in short, without the user name and password that an address may hold."""
    text = (str(error) or type(error).__name__).splitlines()[0][:300]
    return re.sub(r"//[^/@\s]*@", "//", text)
