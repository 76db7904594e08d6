"""An archive whose workers, driver or nodes die, or that another job writes: the others finish, and nothing is half done."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from results import assert_as_standardizer, outcome_of

from ltdiff.dicom.series import find_series
from ltdiff.inference.batch import ATTEMPTS_FOLDER, REPORT_FILE, standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.results import exit_code
from ltdiff.system.lock import only_writer
from ltdiff.system.ray_cluster import ray_session

REPOSITORY = Path(__file__).parents[2]
RAY_AND_A_WORKER_BYTES, PIECE_BYTES = 6 << 30, 128 << 20  # and what a test beside this one takes
SLOW = InferenceConfig(num_inference_steps=150)  # a slice takes long enough to be caught in the middle


@pytest.fixture
def session():
    """A Ray for the test."""
    with ray_session(num_cpus=4):
        yield


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_a_series_that_kills_it_fails(session, make_series, model, tmp_path, caplog):
    make_series(tmp_path / "in" / "deadly", num_slices=20)
    make_series(tmp_path / "in" / "good", num_slices=2)
    out = tmp_path / "out"
    with killing_workers(out / ATTEMPTS_FOLDER / "0", num_kills=2):
        code = exit_code(standardize_archive(tmp_path / "in", model=model, out=out, inference=SLOW))
    assert code == 1
    assert not list(out.glob(".partial-*"))  # half a series of patient data
    assert "deadly/slice_0001.dcm: 2 workers died of it" in caplog.text
    report = pd.read_csv(out / REPORT_FILE, keep_default_na=False)
    assert sorted(report["status"]) == ["fail", "written"]
    assert "2 workers died of it" in report.set_index("status")["reason"]["fail"]
    assert [one.num_slices for one in find_series(out)[0]] == [2]


class killing_workers:
    """Kills the worker at its first `num_kills` attempts at the task whose attempts are counted in `path`."""

    def __init__(self, path: Path, *, num_kills: int) -> None:
        self.thread = threading.Thread(target=self.watch, args=(path, num_kills), daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.thread.join(1)

    @staticmethod
    def watch(path: Path, num_kills: int) -> None:
        for attempt in range(1, num_kills + 1):
            wait_until(lambda attempt=attempt: path.exists() and path.stat().st_size == attempt)
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::MapWorker"):
                    process.kill()


@pytest.mark.slow
def test_without_memory_a_series_fails_and_the_others_are_done(make_series, model, tmp_path, monkeypatch, caplog):
    """Ray's own monitor kills the worker, twice: what may be taken is a little more than Ray needs."""
    make_series(tmp_path / "in" / "large", num_slices=80)  # memory is taken in seconds, also where a slice takes none
    make_series(tmp_path / "in" / "small", num_slices=2)
    out = tmp_path / "out"
    limit_bytes = ray._private.utils.get_used_memory() + RAY_AND_A_WORKER_BYTES
    monkeypatch.setenv("RAY_memory_usage_threshold", str(limit_bytes / ray._private.utils.get_system_memory()))
    with ray_session(num_cpus=4), taking_memory(out / ATTEMPTS_FOLDER / "0", num_times=2) as deaths:
        code = exit_code(standardize_archive(tmp_path / "in", model=model, out=out, inference=SLOW))
    assert (code, len(deaths)) == (1, 2)
    assert "large/slice_0001.dcm: 2 workers died of it" in caplog.text
    assert [one.num_slices for one in find_series(out)[0]] == [2]


@contextmanager
def taking_memory(path: Path, *, num_times: int) -> Iterator[list[int]]:
    """Takes memory at each of the first attempts at the task whose attempts are counted in `path`, until its worker is dead.

    The processes that have died so are noted.
    """
    deaths: list[int] = []

    def take() -> None:
        for attempt in range(1, num_times + 1):
            wait_until(lambda attempt=attempt: path.exists() and path.stat().st_size == attempt)
            (worker,) = (one for one in psutil.Process().children(recursive=True) if one.name().startswith("ray::MapW"))
            taken = []
            while worker.is_running():
                taken.append(b"1" * PIECE_BYTES)
                assert len(taken) * PIECE_BYTES < 2 * RAY_AND_A_WORKER_BYTES, "nobody minded"
                time.sleep(0.05)
            taken.clear()  # the next worker has to get as far as to its attempt
            deaths.append(worker.pid)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield deaths
    thread.join(1)


def wait_until(condition: Callable[[], object], *, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def found(out: Path, pattern: str) -> list[Path]:
    try:
        return list(out.glob(pattern))
    except FileNotFoundError:  # a folder that was just renamed
        return []


@pytest.fixture
def cluster():
    """A Ray that others have started."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_partial_and_the_next_does_the_rest(cluster, make_series, model, tmp_path, place):
    make_series(tmp_path / "in" / "first", num_slices=6)
    make_series(tmp_path / "in" / "second", num_slices=5)
    command = ["jobs/standardize.py", tmp_path / "in", "--model", model, "--out", place.argument]
    command += ["--set", f"inference.num_inference_steps={SLOW.num_inference_steps}"]
    joined = {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": cluster.address}
    driver = subprocess.Popen(
        [*place.python, *map(str, command)], cwd=REPOSITORY, env=os.environ | joined, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(written_slices(place)) == 6 and found(place.path, ".partial-*/*/slice_0002.dcm"))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert len(written_slices(place)) == 6
    place.move()
    with place.written() as out:
        results = standardize_archive(tmp_path / "in", model=model, out=out, inference=SLOW)
    assert [outcome_of(name, results).status for name in ("first", "second")] == ["present", "written"]
    assert len(written_slices(place)) == 11
    assert not [name for name in place.names() if name.startswith(".partial-")]
    for name in ("first", "second"):
        assert_as_standardizer(tmp_path / "in" / name, outcome_of(name, results).output, model, SLOW)


def written_slices(place) -> list[str]:
    """The files of derived series that whoever goes on finds."""
    return [name for name in place.names() if Path(name).match("[!.]*/slice_*.dcm")]


def test_a_second_job_on_the_same_output_is_refused_at_once(make_series, model, tmp_path):
    make_series(tmp_path / "in")
    with only_writer(tmp_path / "out"), pytest.raises(ValueError, match=f"is being written by process {os.getpid()} on "):
        standardize_archive(tmp_path / "in", model=model, out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".ltdiff.lock"]


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_standardizes_to_the_end(make_series, model, tmp_path):
    """Two workers on two nodes; one node dies, and the other has no room for a second worker."""
    make_series(tmp_path / "in" / "first", num_slices=8)
    make_series(tmp_path / "in" / "second", num_slices=7)
    out, lost = tmp_path / "out", []
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, logging_level="ERROR")

        def lose_a_node():
            wait_until(lambda: len(found(out, ".partial-*/*/slice_0002.dcm")) == 2)
            lost.append(next(node for node in nodes if workers_of(node)))
            cluster.remove_node(lost[0], allow_graceful=False)

        thread = threading.Thread(target=lose_a_node)
        thread.start()
        results = standardize_archive(tmp_path / "in", model=model, out=out, inference=SLOW, num_workers=2)
        thread.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert lost
    assert exit_code(results) == 0
    for name in ("first", "second"):
        assert outcome_of(name, results).status == "written"
        assert_as_standardizer(tmp_path / "in" / name, outcome_of(name, results).output, model, SLOW)


def workers_of(node) -> list[psutil.Process]:
    (raylet,) = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children(recursive=True)
    return [process for process in children if process.name().startswith("ray::MapWorker")]
