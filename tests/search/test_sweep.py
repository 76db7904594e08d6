"""Real Ray Tune, Optuna and ASHA on trials that take a moment: restart, failures, early stopping, several objectives."""

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow_servers import free_port, kill, mlflow_server
from optuna.trial import TrialState
from stub_search import FAILING_RATE, make_plan, make_run_trial

from ltdiff.search import sweep
from ltdiff.search.config import REMAINING_ERROR, SECONDS
from ltdiff.search.finals import complete_trials
from ltdiff.search.first_trials import OWN_SETTINGS, origin
from ltdiff.search.search_report import outcome, trial_table, write_report
from ltdiff.search.study import CONTINUES, STUDY_FILE, STUDY_NAME, ended_trials, open_study
from ltdiff.search.sweep import run_trials
from ltdiff.search.sweep_progress import MAX_FAILED_ALIKE
from ltdiff.search.trial_log import TrialLog
from ltdiff.system.ray_cluster import ray_session
from ltdiff.system.settings_tree import change_settings, make_settings
from ltdiff.training.config import Settings
from ltdiff.training.ray_driver import num_cpus_needed

pytestmark = pytest.mark.ray

RATE = "training.joint.learning_rate"
NUM_TRIALS = 6


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    context = make_plan(tmp_path_factory.mktemp("session") / "unused")
    with ray_session(num_cpus=2 * (num_cpus_needed(context.base) + 1), dashboard=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "run_trial", make_run_trial(0.0))
        yield


@pytest.fixture(scope="module")
def searched(session, tmp_path_factory):
    """(context, study) of a search that nothing disturbed, its trials logged as `ltdiff tune` does."""
    folder = tmp_path_factory.mktemp("searched")
    context = make_plan(folder / "search", num_trials=NUM_TRIALS)
    with TrialLog(context, tracking_uri=f"sqlite:///{folder / 'mlflow.db'}") as log:
        study = run_trials(context, on_change=log.update)
    return context, study


def _facts(study):
    """Of each ended trial its values, state and figure."""
    return [(trial.params, trial.state, trial.values) for trial in ended_trials(study)]


def test_every_trial_ends_and_most_are_stopped_early(searched):
    _, study = searched
    outcomes = [outcome(trial) for trial in ended_trials(study)]
    assert len(outcomes) == NUM_TRIALS
    assert outcomes.count("stopped early") >= NUM_TRIALS // 2
    assert outcomes.count("to the end") >= 1


def test_a_trial_that_is_stopped_early_is_pruned_with_its_scores(searched):
    """What the trainings reported is what the study has, step by step, and the value of a trial is its last score."""
    context, study = searched
    reported = (context.out / "reported.txt").read_text().splitlines()
    for trial in ended_trials(study):
        num_scores = reported.count(str(trial.params[RATE]))
        assert sorted(trial.intermediate_values) == list(range(1, num_scores + 1))
        is_whole = num_scores == context.config.num_scores
        assert trial.state == (TrialState.COMPLETE if is_whole else TrialState.PRUNED)
        assert trial.values == [trial.intermediate_values[num_scores]]


def test_the_settings_given_are_the_first_trial(searched):
    context, study = searched
    first, *others = ended_trials(study)
    assert context.space.decode(first.params) == {
        RATE: context.base.training.joint.learning_rate,
        "diffusion.process": "bridge",
        "diffusion.kappa": context.base.diffusion.kappa,
    }
    assert [origin(trial) for trial in (first, *others)] == [OWN_SETTINGS, *["drawn"] * len(others)]
    assert trial_table(study, context).set_index("number")["origin"][0] == OWN_SETTINGS


def test_every_trial_is_in_mlflow_below_the_search(searched):
    context, study = searched
    client = MlflowClient(tracking_uri=f"sqlite:///{context.out.parent / 'mlflow.db'}")
    runs = {one.info.run_name: one for one in client.search_runs(["1"])}
    search = runs.pop("search")
    assert sorted(runs) == [f"search-trial-{number:04d}" for number in range(NUM_TRIALS)]
    assert search.info.status == "FINISHED"
    assert search.data.metrics["num_trials"] == NUM_TRIALS
    assert search.data.metrics[REMAINING_ERROR] == min(trial.values[0] for trial in complete_trials(study))
    for trial in ended_trials(study):
        run = runs[f"search-trial-{trial.number:04d}"]
        assert run.data.tags["mlflow.parentRunId"] == search.info.run_id
        assert run.data.tags["ltdiff.trial_state"] == trial.state.name
        assert run.info.status == {"COMPLETE": "FINISHED", "PRUNED": "KILLED"}[trial.state.name]
        assert float(run.data.params[RATE]) == trial.params[RATE]


def test_a_process_that_has_ended_its_trial_takes_the_next_one(searched):
    """Where a trial was stopped early too."""
    context, _ = searched
    assert len(set((context.out / "processes.txt").read_text().splitlines())) == 1


@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_search(session, tmp_path):
    context = make_plan(tmp_path / "search", num_trials=2)
    study = open_study(context)
    study.enqueue_trial({RATE: 2 * FAILING_RATE / 1.9, "diffusion.process": "ddpm"})
    run_trials(context)
    table = trial_table(study, context)
    assert sorted(table["outcome"])[0] == "failed"
    assert len(table) == 2
    assert table.iloc[-1][RATE] > FAILING_RATE
    started = (context.out / "started.txt").read_text().splitlines()
    run_trials(context)
    assert (context.out / "started.txt").read_text().splitlines() == started  # the failed one is not tried again


@pytest.mark.slow
@pytest.mark.parametrize("num_concurrent", [1, 2])
def test_trials_that_fail_alike_end_the_search(session, tmp_path, num_concurrent):
    """As where the disk is full: the others stay to be run, one that was running beside them too."""
    context = make_plan(tmp_path / "search", num_trials=8, num_concurrent=num_concurrent)
    study = open_study(context)
    num_failing = MAX_FAILED_ALIKE + num_concurrent - 1  # a good one beside the last would end between them
    for number in range(num_failing):
        study.enqueue_trial({RATE: (1 + number / 100) * FAILING_RATE * 1.05, "diffusion.process": "ddpm"})
    with pytest.raises(ValueError, match=r"^5 trials in a row failed alike: .*; when that is mended, the same command"):
        run_trials(context)
    outcomes = [outcome(trial) for trial in ended_trials(study)]
    assert 5 <= outcomes.count("failed") <= num_failing
    assert len(outcomes) < 8
    run_trials(context)
    assert [outcome(trial) for trial in ended_trials(study)].count("failed") == num_failing
    assert len(ended_trials(study)) == 8


def test_the_same_search_again_runs_nothing(searched):
    context, study = searched
    before, started = _facts(study), (context.out / "started.txt").read_text()
    assert _facts(run_trials(context)) == before
    assert (context.out / "started.txt").read_text() == started


@pytest.mark.slow
def test_an_interrupted_trial_is_run_again_with_its_values(session, searched, tmp_path):
    """As a killed driver leaves it: two of more trials have ended, one is running and has reported a value."""
    context = make_plan(tmp_path / "search", num_trials=NUM_TRIALS)
    run_trials(make_plan(tmp_path / "search", num_trials=2))
    study = open_study(context)
    interrupted = study.ask()
    values = context.space.suggest(interrupted)
    interrupted.report(1.0, 1)
    study = run_trials(context)
    assert _facts(study) == _facts(searched[1])
    (again,) = [trial for trial in study.trials if CONTINUES in trial.user_attrs]
    assert again.user_attrs[CONTINUES] == interrupted.number
    assert context.space.decode(again.params) == values


def test_another_search_in_the_same_folder_is_refused(searched):
    context, _ = searched
    with pytest.raises(ValueError, match=r"holds work with other settings or data \(search\.seed was 0, now 1\)"):
        run_trials(make_plan(context.out, num_trials=NUM_TRIALS, seed=1))


@pytest.mark.slow
def test_two_objectives_give_a_front_and_stop_nothing(session, tmp_path):
    context = make_plan(tmp_path / "search", num_trials=3, objectives="error_and_seconds", num_concurrent=2)
    study = run_trials(context)
    assert all(outcome(trial) == "to the end" for trial in ended_trials(study))
    assert len((context.out / "reported.txt").read_text().splitlines()) == 3 * context.config.num_scores
    write_report(study, context)
    table = pd.read_csv(context.out / "trials.csv")
    for _, row in table.iterrows():
        others = table[(table[REMAINING_ERROR] < row[REMAINING_ERROR]) & (table[SECONDS] < row[SECONDS])]
        assert row["is_best"] == others.empty


def test_the_report_has_the_best_settings_at_full_length(searched):
    context, study = searched
    text = write_report(study, context)
    best = complete_trials(study)[0]
    assert best.values[0] == min(t.values[0] for t in ended_trials(study) if outcome(t) == "to the end")
    written = make_settings(Settings, yaml.safe_load((context.out / "best.yaml").read_text()))
    assert written == change_settings(context.base, context.space.decode(best.params))
    assert written.training.joint.num_steps == context.base.training.joint.num_steps
    table = pd.read_csv(context.out / "trials.csv")
    assert len(table) == NUM_TRIALS
    assert table[REMAINING_ERROR][0] == pytest.approx(best.values[0])
    assert f"trial {best.number}" in text
    assert {"history.png", "report.md"} <= {path.name for path in context.out.iterdir()}


def test_without_a_trial_that_ended_there_is_no_best(tmp_path):
    context = make_plan(tmp_path / "search")
    with pytest.raises(ValueError, match="no trial came to its end"):
        complete_trials(open_study(context))


@pytest.mark.slow
def test_a_server_that_stops_in_the_middle_costs_no_trial(session, tmp_path, caplog):
    """What ended while MLflow was down is logged by the same command once it is up again, and nothing twice."""
    context, port = make_plan(tmp_path / "search", num_trials=NUM_TRIALS), free_port()
    store = tmp_path / "store"
    store.mkdir()
    with mlflow_server(store, port=port) as (uri, server):
        log = TrialLog(context, tracking_uri=uri)

        def stop_after_two(study):
            if len(ended_trials(study)) == 2 and server.poll() is None:
                log.wait(study)  # both are logged
                kill(server)
            log.update(study)

        with log:
            study = run_trials(context, on_change=stop_after_two)
    assert len(ended_trials(study)) == NUM_TRIALS
    assert f"{NUM_TRIALS - 2} trials are not in MLflow; the same command logs them" in caplog.text
    with mlflow_server(store, port=port) as (uri, _):
        with TrialLog(context, tracking_uri=uri) as again:
            again.update(run_trials(context))
        runs = MlflowClient(tracking_uri=uri).search_runs(["1"])
    assert sorted(one.info.run_name for one in runs) == [
        "search",
        *(f"search-trial-{number:04d}" for number in range(NUM_TRIALS)),
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_three_moments_it_is_the_same_search(searched, place):
    """With kill −9 of the driver, which takes Ray with it. In object storage, each time another machine goes on."""
    tests = Path(__file__).parents[1]
    command = [*place.python, tests / "search" / "stub_search.py", place.argument, str(NUM_TRIALS)]
    environment = os.environ | {"PYTHONPATH": f"{tests}:{tests.parent}"}
    for num_ended in (0, 2, 4):
        process = subprocess.Popen(command, env=environment)
        _wait_for(place, num_ended=num_ended, process=process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        place.move()
    subprocess.run(command, env=environment, check=True)
    study = _load(place.result())
    assert _facts(study) == _facts(searched[1])
    assert all(trial.state != optuna.trial.TrialState.RUNNING for trial in study.trials)


def _load(out):
    return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{out / STUDY_FILE}")


def _has_study(path):
    """Read alone: Optuna, which makes the tables that it does not find, would make them beside the search."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute("SELECT COUNT(*) FROM study_directions").fetchone()[0] > 0
    except sqlite3.OperationalError:  # no file, no table, or just being written
        return False


def _wait_for(place, *, num_ended, process):
    """Until so many trials have ended and one more is running, and there is a study for whoever goes on."""
    deadline_s = time.monotonic() + 200
    while time.monotonic() < deadline_s:
        assert process.poll() is None
        if _has_study(place.path / STUDY_FILE) and STUDY_FILE in place.names():
            study = _load(place.path)
            running = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
            if len(ended_trials(study)) >= num_ended and running:
                return
        time.sleep(0.1)
    raise TimeoutError
