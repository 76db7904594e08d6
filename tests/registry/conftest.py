"""What the tests of the registry share."""

from pathlib import Path

import pytest
from logged_runs import uri_of

from ltdiff.registry import client as registry_client


@pytest.fixture(scope="module", autouse=True)
def no_tracking_uri():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="session")
def out(tmp_path_factory) -> Path:
    """One run folder for most tests: making MLflow's database takes seconds."""
    return tmp_path_factory.mktemp("run folder")  # with a space in its name


@pytest.fixture
def mlflow_client(out):
    with registry_client.open_client(uri_of(out)) as client:
        yield client
