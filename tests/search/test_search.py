"""A whole search for real: trials of three phases on Ray Train inside Ray Tune, killed once; the best trained and registered."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from stub_search import SPACE, make_plan
from tiny_run import tiny_settings, write_pairs

from ltdiff.cli import run_ltdiff
from ltdiff.model.ltdiff import load_model
from ltdiff.search.finals import FINALS_FOLDER, SCORE_FILE
from ltdiff.search.search_report import write_report
from ltdiff.search.study import ORIGIN, open_study
from ltdiff.search.trial_log import TrialLog
from ltdiff.training.config import PhaseConfig
from ltdiff.training.run import METRICS_FILE
from ltdiff.uncertainty import calibration

ROOT = Path(__file__).parents[2]
NUM_TRIALS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    write_pairs(folder)
    (folder / "space.yaml").write_text(SPACE)
    settings = tiny_settings(joint=PhaseConfig(120), checkpoint_every_steps=50)
    (folder / "settings.yaml").write_text(json.dumps(asdict(settings)))
    return folder


def _arguments(folder, name, *, share=1.0):
    arguments = [str(folder / "pairs.parquet"), "--out", str(folder / name), "--space", str(folder / "space.yaml")]
    arguments += ["--config", str(folder / "settings.yaml"), "--num_trials", str(NUM_TRIALS)]
    return [*arguments, f"--set=search.share={share}", "--set=search.num_scores=6", "--set=search.num_rois=8"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_goes_on_and_its_best_is_trained_and_registered(folder, monkeypatch):
    """The second trial is killed in its last phase, and goes on from its checkpoint."""
    monkeypatch.setattr(calibration, "NUM_DRAWS", 2)
    command = [sys.executable, ROOT / "tuning" / "search.py", *_arguments(folder, "killed")]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    rows = []
    deadline_s = time.monotonic() + 400
    while len(rows) < 2 or not 1 <= len(rows[-1].read_text().splitlines()) <= 3:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
        rows = sorted((folder / "killed").glob("trials/*/joint/metrics.jsonl"), key=lambda path: path.stat().st_mtime)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run_ltdiff(["tune", *_arguments(folder, "killed")]) == 0

    table = pd.read_csv(folder / "killed" / "trials.csv")
    assert len(table) == NUM_TRIALS
    assert len(list((folder / "killed" / "trials").iterdir())) == NUM_TRIALS  # none was begun anew
    trained = sorted((folder / "killed").glob("trials/*/autoencoder/metrics.jsonl"))
    assert len(trained) == 1  # phase 1, once for both
    for path in (folder / "killed").glob(f"trials/*/joint/{METRICS_FILE}"):  # from its checkpoint: no step was done again
        steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
        assert steps == sorted(set(steps))
    finals = pd.read_csv(folder / "killed" / "finals.csv")
    assert list(finals["trainings"]) == [2] * len(finals)
    runs = [path.parent for path in (folder / "killed" / FINALS_FOLDER).glob(f"trial-{finals['trial'][0]:04d}-*/{SCORE_FILE}")]
    errors = {run: json.loads((run / SCORE_FILE).read_text())["remaining_error"] for run in runs}
    assert sum(errors.values()) / 2 == pytest.approx(finals["mean"][0])
    assert finals["mean"][0] == finals["mean"].min()
    best = min(errors, key=errors.get)
    _, about = load_model(best / "model")
    assert list(about["trained"]) == ["autoencoder", "ddpm", "joint"]  # the settings have no steps of the fourth
    lines = (best / "joint" / METRICS_FILE).read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 120
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'killed' / 'mlflow.db'}")
    names = {one.info.run_name for one in client.search_runs(["1"])}
    trials = {f"killed-trial-{number:04d}" for number in table["number"]}
    assert names == {"killed", *trials, *(path.name for path in (folder / "killed" / FINALS_FOLDER).iterdir())}
    assert client.get_registered_model("ltdiff").latest_versions[0].version


def test_wrong_arguments_are_sentences(folder, capsys):
    assert run_ltdiff(["tune", str(folder / "nothing.parquet"), "--out", str(folder / "out")]) == 1
    assert "nothing.parquet" in capsys.readouterr().err
    assert run_ltdiff(["tune", *_arguments(folder, "out", share=2)]) == 2
    assert "share must lie in 0…1" in capsys.readouterr().err
    assert not (folder / "out").exists()
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work")
    assert run_ltdiff(["tune", *_arguments(folder, "mine")]) == 1
    assert "mine is not empty and has no search.json" in capsys.readouterr().err


def test_where_mlflow_is_down_one_warning_says_what_is_missing(tmp_path, caplog):
    """And the same call, when it is up again, logs what was not."""
    context = make_plan(tmp_path / "search")
    study = open_study(context)
    for rate in (1e-3, 2e-3):
        study.enqueue_trial({"training.joint.learning_rate": rate, "diffusion.process": "ddpm"})
        asked = study.ask()
        context.space.suggest(asked)
        study.tell(asked, 0.5)
    with TrialLog(context, tracking_uri="http://127.0.0.1:9") as down:
        down.wait(study)
        down.update(study)
    assert caplog.text.count("was not logged in MLflow") == 2  # during the search, and at its end
    assert caplog.text.count("2 trials are not in MLflow; the same command logs them") == 1
    assert [path.name for path in context.out.glob("unlogged-*")] == ["unlogged-search.json"]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        with TrialLog(context, tracking_uri=uri) as log:
            log.update(study)
    assert not list(context.out.glob("unlogged-*"))
    runs = MlflowClient(tracking_uri=uri).search_runs(["1"])
    trials = {one.info.run_name: one for one in runs}
    assert sorted(trials) == ["search", "search-trial-0000", "search-trial-0001"]
    assert trials.pop("search").info.status == "FINISHED"
    assert {one.data.params["training.joint.learning_rate"] for one in trials.values()} == {"0.001", "0.002"}


def test_the_report_is_in_mlflow_with_its_plots_and_without_folders(tmp_path, uri):
    context = make_plan(tmp_path / "search")
    study = open_study(context)
    values = {"training.joint.learning_rate": 1e-3, "diffusion.process": "ddpm"}
    study.enqueue_trial(values, user_attrs={ORIGIN: "/home/jane/first, trial 3 again"})
    asked = study.ask()
    context.space.suggest(asked)
    study.tell(asked, 0.5)
    with TrialLog(context, tracking_uri=uri) as log:
        log.update(study)
        log.add_report(write_report(study, context), study)
    client = MlflowClient(tracking_uri=uri)
    trial, search = sorted(client.search_runs(["1"]), key=lambda run: run.info.run_name, reverse=True)
    assert trial.data.tags["ltdiff.origin"] == "first, trial 3 again"
    found = {each.path for each in client.list_artifacts(search.info.run_id)}
    assert found == {"settings.yaml", "report.md", "best.yaml", "history.png"}
    shown = Path(client.download_artifacts(search.info.run_id, "report.md")).read_text()
    assert "first, trial 3 again" in shown
    assert "/home/jane" not in shown
