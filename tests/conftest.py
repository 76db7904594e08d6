"""What several tests share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from object_storage_server import CREDENTIALS, forget_connections, make_bucket, s3_server
from run_places import FolderPlace, Place, StoragePlace

from ltdiff.system.storage_url import Url

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background: programs under test would not see Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("ltdiff", deadline=None)  # a busy machine is no failure
settings.load_profile("ltdiff")

REPOSITORY = Path(__file__).parents[1]
LONGEST = ("test_guides", "test_methods", "test_compare_methods", "test_parallel")
"""Files that take half a minute or more."""


def pytest_collection_modifyitems(items):
    """The longest files come first: begun last, one of them would keep a single process busy when all others are done."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def few_choosing_regions():
    """On tiny data a match is chosen on fewer regions: their features would take longer than all else of a training."""
    from ltdiff.training import fit_kernel_match

    fit_kernel_match.NUM_CHOOSING_ROIS = 20


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """No test writes to the user's own, or reads what is there."""
    os.environ["LTDIFF_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """An S3 server on loopback."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3_address, monkeypatch, tmp_path) -> Iterator[Url]:
    """An empty bucket of that server, which the environment names, and a machine without local copies."""
    for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": s3_address, "LTDIFF_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    forget_connections()
    yield make_bucket(s3_address)
    forget_connections()


@pytest.fixture
def storage_place(bucket, monkeypatch, tmp_path) -> StoragePlace:
    """On the server of `bucket`."""
    machines = iter(range(9))

    def change_machine() -> None:
        monkeypatch.setenv("LTDIFF_CACHE", str(tmp_path / f"machine {next(machines)}"))
        forget_connections()

    return StoragePlace(bucket.child("results/out"), change_machine)


@pytest.fixture(params=["folder", "storage"])
def place(request, tmp_path) -> Place:
    """A folder, and object storage."""
    return FolderPlace(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("storage_place")


@pytest.fixture
def settled(monkeypatch):
    """Headers are kept for the next command also of files that a test has just written."""
    from ltdiff.dicom import header_index

    monkeypatch.setattr(header_index, "SETTLED_NS", 0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real CT scans; tests that use it are skipped where it is absent."""
    folder = Path(os.environ.get("LTDIFF_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real CT scans at {folder} (set LTDIFF_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """An empty database: making one takes MLflow seconds, copying it does not."""
    from ltdiff.registry import client as registry_client  # MLflow takes seconds to import

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
    from ltdiff.registry import client as registry_client

    with registry_client.open_client(uri) as client:
        yield client
