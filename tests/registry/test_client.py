"""The client of the registry: quiet where a database refuses, and loggers are as they were afterwards."""

import logging
import subprocess
import sys
from pathlib import Path

from small_disk import small_disk

from ltdiff.registry.client import open_client

NOISY = ("urllib3.connectionpool", "mlflow.store.db.utils")
LOG_MUCH = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from small_disk import fill
from ltdiff.registry.client import attempt, open_client
database = Path(sys.argv[2])
def log_much():
    with open_client(f"sqlite:///{database}") as client:
        client.search_experiments()
        print("made", file=sys.stderr)
        fill(database.parent)
        for number in range(200):
            client.create_experiment(f"experiment {number} {'x' * 200}")
attempt(log_much, "the run is not logged")
"""
"""In a process of its own: MLflow keeps its database open."""


def test_a_full_disk_is_one_line_and_no_traceback_of_mlflow(tmp_path):
    with small_disk(tmp_path / "disk", size_kb=4_000) as disk:
        command = [sys.executable, "-c", LOG_MUCH, str(Path(__file__).parents[1]), str(disk / "mlflow.db")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = ended.stderr.partition("made\n")[2].splitlines()
    assert line.startswith("the run is not logged; the same command, run again, does it. Cause: ")
    assert "full" in line


def test_loggers_are_as_they_were_afterwards(tmp_path):
    levels = [logging.getLogger(name).level for name in NOISY]
    with open_client(f"sqlite:///{tmp_path / 'mlflow.db'}"):
        assert not logging.getLogger(NOISY[1]).isEnabledFor(logging.ERROR)
    assert levels == [logging.getLogger(name).level for name in NOISY]
