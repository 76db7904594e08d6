"""A registry in a SQLite file."""

import shutil
from pathlib import Path

import pytest

from ltdiff.registry import client as registry_client


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """An empty database: making one takes MLflow seconds, copying it does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with registry_client.open_client(f"sqlite:///{path}"):
        return path


@pytest.fixture
def uri(database, tmp_path, monkeypatch) -> str:
    """A registry of its own for a test, which MLFLOW_TRACKING_URI names."""
    (tmp_path / "the registry").mkdir()
    copy = shutil.copyfile(database, tmp_path / "the registry" / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}")
    return f"sqlite:///{copy}"


@pytest.fixture
def client(uri):
    """MLflow's own client of that registry."""
    with registry_client.open_client(uri) as client:
        yield client
