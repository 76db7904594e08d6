"""Runs that MLflow shows while they last: there from the beginning, followed by figures, resumed, ended; or MLflow is down."""

import json
import logging
import time

import pytest
import yaml
from logged_runs import facts, log, uri_of

from ltdiff.registry.live_run import LiveRun, watch

BEGUN_S = 1_700_000_000.5


def row(step: int) -> dict[str, float]:
    return {"step": float(step), "loss": 1 / step, "time": BEGUN_S + step}


def live(out, key: str, history: list, **changes) -> LiveRun:
    return LiveRun(facts(key, **changes), read_history=lambda: list(history), tracking_uri=uri_of(out))


def run_of(client, key: str):
    (run,) = client.search_runs(["1"], f"tags.`ltdiff.run_key` = '{key}'")
    return run


def points(client, key: str) -> list[tuple[int, float, int]]:
    history = client.get_metric_history(run_of(client, key).info.run_id, "loss")
    return [(one.step, one.value, one.timestamp) for one in history]


def artifact(client, key: str, name: str) -> str:
    from mlflow.artifacts import load_text

    return load_text(f"{run_of(client, key).info.artifact_uri}/{name}")


def test_it_is_there_from_the_beginning(out, mlflow_client):
    digest = "begun".ljust(64, "0")  # MLflow keeps the profile that it was first given for a digest
    live(out, "begun", [], data_fingerprint=digest, data_profile={"target slices, train": 4}).update("RUNNING")
    run = run_of(mlflow_client, "begun")
    assert (run.info.status, run.info.run_name) == ("RUNNING", "joint")
    assert abs(run.info.start_time / 1000 - time.time()) < 3600
    assert run.data.params == {"seed": "7", "bridge.kappa": "0.1", "bridge.steps": "[1, 4]"}
    assert yaml.safe_load(artifact(mlflow_client, "begun", "settings.yaml")) == {
        "seed": 7,
        "bridge": {"kappa": 0.1, "steps": [1, 4]},
    }
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("pairs", digest[:36])
    assert json.loads(data.dataset.source) == {"sha256": digest}
    assert json.loads(data.dataset.profile) == {"target slices, train": 4}
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]


def test_its_figures_follow_with_their_steps_and_times(out, mlflow_client):
    history = [row(1)]
    run = live(out, "followed", history)
    run.update("RUNNING")
    history += [row(2), row(4)]
    run.update("RUNNING")
    run.update("RUNNING")
    assert points(mlflow_client, "followed") == [(step, 1 / step, int((BEGUN_S + step) * 1000)) for step in (1, 2, 4)]
    assert "time" not in run_of(mlflow_client, "followed").data.metrics


def test_what_goes_on_is_the_same_run(out, mlflow_client):
    live(out, "resumed", [row(1)]).update("FAILED")
    failed = run_of(mlflow_client, "resumed")
    assert (failed.info.status, failed.info.end_time is not None) == ("FAILED", True)
    changes = {"parameters": {"seed": 8, "rate": 0.1}, "changes": ["settings.seed was 7, now 8"]}
    live(out, "resumed", [row(1), row(2)], **changes).update("RUNNING")
    run = run_of(mlflow_client, "resumed")
    assert (run.info.run_id, run.info.status) == (failed.info.run_id, "RUNNING")
    assert (run.data.params["seed"], run.data.params["rate"]) == ("7", "0.1")
    assert run.data.tags["ltdiff.changes"] == "settings.seed was 7, now 8"
    assert yaml.safe_load(artifact(mlflow_client, "resumed", "settings.yaml"))["seed"] == 8
    assert [point[0] for point in points(mlflow_client, "resumed")] == [1, 2]


def test_its_end_adds_what_is_missing_and_nothing_twice(out, mlflow_client):
    live(out, "ended", [row(1), row(2)]).update("RUNNING")
    run_id = log(out, "ended", history=[row(1), row(2), row(3)], texts={"card.md": "# A model"})
    run = run_of(mlflow_client, "ended")
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert [point[0] for point in points(mlflow_client, "ended")] == [1, 2, 3]
    assert artifact(mlflow_client, "ended", "card.md") == "# A model"
    live(out, "ended", [row(1), row(9)]).update("RUNNING")
    assert run_of(mlflow_client, "ended").info.status == "FINISHED"
    assert len(points(mlflow_client, "ended")) == 3


def test_a_run_that_is_logged_at_its_end_began_with_its_first_figure(out, mlflow_client):
    log(out, "late", history=[row(2), row(3)])
    assert run_of(mlflow_client, "late").info.start_time == int((BEGUN_S + 2) * 1000)


@pytest.mark.parametrize(
    ("error", "is_done", "status"),
    [
        (None, True, "RUNNING"),
        (None, False, "SCHEDULED"),
        (ValueError("a worker died"), False, "FAILED"),
        (KeyboardInterrupt(), False, "KILLED"),
        (SystemExit(143), False, "KILLED"),
    ],
)
def test_the_end_of_the_work_is_seen(out, mlflow_client, error, is_done, status):
    key, history = f"watched-{type(error).__name__}-{is_done}", []

    def work():
        with watch(live(out, key, history), is_done=lambda: is_done):
            history.append(row(5))
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            work()
    else:
        work()
    assert run_of(mlflow_client, key).info.status == status
    assert [point[0] for point in points(mlflow_client, key)] == [5]


def test_a_server_that_is_down_costs_one_warning_and_then_gets_all(out, mlflow_client, caplog):
    run = LiveRun(facts("down"), read_history=lambda: [row(1), row(2)], tracking_uri="http://reader:secret@127.0.0.1:9")
    with watch(run, is_done=lambda: False):
        pass
    run.update("RUNNING")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "MLflow does not take the figures of joint" in caplog.text
    assert "secret" not in caplog.text
    run.tracking_uri = uri_of(out)
    run.update("RUNNING")
    assert [point[0] for point in points(mlflow_client, "down")] == [1, 2]
    assert len(caplog.records) == 1
