"""A training while MLflow does not answer: it ends soon, with its model, and keeps its figures until MLflow takes them."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from mlflow_servers import hanging_server
from tiny_run import tiny_settings, write_pairs

from ltdiff.model.model_folder import CALIBRATION_FILE
from ltdiff.registry.client import open_client
from ltdiff.training.config import PhaseConfig
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
MOST_S = 60.0
"""More than what MLflow's client is given to give up, and the end of the process."""


def train(folder, **environment):
    """The command, as a process of its own."""
    options = ["--out", folder / "run", "--config", folder / "settings.yaml"]
    return subprocess.run(
        [sys.executable, "-m", "ltdiff.cli", "train", folder / "pairs.parquet", *options],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_server_that_hangs_holds_a_training_up_for_a_minute_at_most(tmp_path):
    write_pairs(tmp_path)
    run = tmp_path / "run"
    (tmp_path / "settings.yaml").write_text(json.dumps(asdict(tiny_settings(autoencoder=PhaseConfig(0), ddpm=PhaseConfig(0)))))
    with hanging_server() as uri:
        done = train(tmp_path, MLFLOW_TRACKING_URI=uri)
    ended_s = time.time()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("was not logged in MLflow") == 1
    assert ended_s - (run / MODEL_FOLDER / CALIBRATION_FILE).stat().st_mtime < MOST_S  # its last work before the log
    losses = [json.loads(line)["loss"] for line in (run / "joint" / METRICS_FILE).read_text().splitlines()]
    kept = json.loads((run / "unlogged-run.json").read_text())["metrics"]
    assert [value for name, value, _ in kept if name == "joint.loss"] == losses

    done = train(tmp_path)  # the same command, when MLflow answers
    assert done.returncode == 0, done.stderr
    assert not (run / "unlogged-run.json").exists()
    with open_client(f"sqlite:///{run / 'mlflow.db'}") as client:
        (logged,) = client.search_runs(["1"])
        assert logged.data.metrics["joint.loss"] == losses[-1]
        assert client.get_model_version_by_alias("ltdiff", "champion").run_id == logged.info.run_id
