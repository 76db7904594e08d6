"""What `ltdiff evaluate` reports of a registered model is in the run that trained it, without what is one patient's."""

import socket
from pathlib import Path

import pandas as pd
import pytest
from tiny_registry import record
from tiny_run import one_thread, write_pairs  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.data.manifest import data_fingerprint, read_manifest
from ltdiff.evaluation.report import SHAREABLE, copy_shareable
from ltdiff.registry.model_reports import log_report

OF_PATIENTS = {"rois.json", "slices.png", "slices.csv", "features.parquet", "structures.csv", "summary.json"}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, database):
    """(folder, client of its registry, the artifacts' place) after the evaluation of a model that is registered there."""
    from ltdiff.registry.client import open_client

    folder = tmp_path_factory.mktemp("DOE_JANE")
    uri = f"sqlite:///{folder}/run/mlflow.db"
    (folder / "run").mkdir()
    (folder / "run" / "mlflow.db").write_bytes(database.read_bytes())
    model = record(folder / "run", kernels=("soft", "sharp"))
    pairs = write_pairs(folder / "data")
    settings = [word for name in ("num_rois=3", "num_workers=1") for word in ("--set", f"evaluation.{name}")]
    assert run_ltdiff(["evaluate", str(pairs), "--model", str(model), "--out", str(folder / "report"), *settings]) == 0
    with open_client(uri) as client:
        yield folder, client, f"evaluation/{data_fingerprint(read_manifest(pairs))[:10]}-test-pyradiomics"


def artifacts(evaluated) -> Path:
    _, client, place = evaluated
    return Path(client.download_artifacts(client.get_model_version("ltdiff", "1").run_id, place))


def test_tables_and_figures_are_in_the_run_of_the_model(evaluated):
    found = {path.name for path in artifacts(evaluated).iterdir()}
    assert {"report.md", "reporting.md", "ccc.csv", "ccc.png", "image_metrics.csv", "robust_features.csv"} <= found
    assert {Path(name).stem for name in found} <= {*SHAREABLE, "report"}


def test_nothing_of_a_single_patient_is_there(evaluated):
    folder, _, _ = evaluated
    assert {path.name for path in (folder / "report").iterdir()} >= OF_PATIENTS
    shared = artifacts(evaluated)
    assert OF_PATIENTS.isdisjoint(path.name for path in shared.iterdir())
    assert "(ccc.png)" in (shared / "report.md").read_text()
    assert "slices.png" not in (shared / "report.md").read_text()
    manifest = read_manifest(folder / "data" / "pairs.parquet")
    secrets = {str(folder), "DOE", *manifest["path"], *manifest["patient"], *manifest["series_uid"]}
    for path in shared.iterdir():
        assert not [secret for secret in secrets if secret.encode() in path.read_bytes()], path.name


def test_every_table_has_been_looked_at(evaluated):
    """What is new in a report is one patient's until SHAREABLE says otherwise; no shared table has a row for a place."""
    for path in artifacts(evaluated).glob("*.csv"):
        assert {"series_uid", "patient", "slice_index", "label", "path"}.isdisjoint(pd.read_csv(path).columns), path.name


def test_a_model_that_is_not_registered_has_no_run(evaluated, tmp_path):
    folder, client, _ = evaluated
    before = [each.path for each in client.list_artifacts(client.get_model_version("ltdiff", "1").run_id)]
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "model.json").write_text("{}")
    log_report(tmp_path / "alone", folder / "report", place="evaluation/x")
    (folder / "run" / "other").mkdir()
    (folder / "run" / "other" / "model.json").write_text("{}")
    log_report(folder / "run" / "other", folder / "report", place="evaluation/x")
    assert [each.path for each in client.list_artifacts(client.get_model_version("ltdiff", "1").run_id)] == before
    assert not (tmp_path / "mlflow.db").exists()


def test_a_server_that_is_down_costs_one_warning(evaluated, tmp_path, caplog, monkeypatch):
    folder, _, _ = evaluated
    copy_shareable(folder / "report", tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        log_report(folder / "run" / "model", tmp_path, place="evaluation/x")
    (message,) = [each for each in caplog.messages if "MLflow" in each]
    assert message.startswith("the report was not added to the model's run in MLflow, as evaluation/x; the same command")
