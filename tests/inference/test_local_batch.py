"""One worker beside the program, without Ray: the same images, and what ends the worker does not end the run."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from results import assert_as_standardizer
from run_places import Place
from small_disk import small_disk

from ltdiff.dicom.series import find_series
from ltdiff.inference.batch import standardize_archive
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.local_batch import run_here
from ltdiff.inference.models import TrainedModel
from ltdiff.inference.tasks import SeriesTask, WorkerSettings

ROOT = Path(__file__).parents[2]
INFERENCE = InferenceConfig(precision="fp32")
SLOW = InferenceConfig(num_inference_steps=150)
"""A slice takes long enough for a series to be caught in the middle."""


@dataclass(frozen=True)
class DeadlyTask(SeriesTask):
    """Ends its process in the middle, as a decoder's crash does."""

    def write(self, pairs):
        def deadly():
            for number, pair in enumerate(pairs):
                if number == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield pair

        return super().write(deadly())


def test_a_task_that_ends_its_worker_fails_and_the_others_are_done(make_series, model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "attempts").mkdir()
    derivation = TrainedModel.load(model, INFERENCE).derivation_for("B")
    tasks = []
    for kind, name in ((SeriesTask, "a"), (DeadlyTask, "bb"), (SeriesTask, "ccc")):
        (series,), _ = find_series(make_series(tmp_path / "in" / name))
        tasks.append(kind(series, tmp_path / "out", derivation, model))
    settings = WorkerSettings(INFERENCE, tmp_path / "attempts", len(tasks), use_gpu=False)
    first, second, third = run_here(tasks, settings)
    assert (second.output, second.reason) == (None, "2 workers died of it (a crash, or no memory)")
    assert_as_standardizer(tmp_path / "in" / "a", first.output, model, INFERENCE)
    assert_as_standardizer(tmp_path / "in" / "ccc", third.output, model, INFERENCE)


STANDARDIZE = """
import sys
from ltdiff.cli import run_ltdiff
code = run_ltdiff(["standardize", *sys.argv[1:]])
print([name for name in ("torch", "ray", "grpc") if name in sys.modules])
sys.exit(code)
"""


def test_nothing_heavy_is_loaded_by_the_program_itself(make_series, model, tmp_path):
    """PyTorch is in the worker, Ray nowhere: an archive in which all is done takes a second."""
    make_series(tmp_path / "in")
    command = [sys.executable, "-c", STANDARDIZE, tmp_path / "in", "--model", model, "--out", tmp_path / "out"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    for said in ("1 written, 0 present", "0 written, 1 present"):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
        assert said in done.stderr
        assert (done.returncode, done.stdout) == (0, "[]\n")


def is_writing(place: Place) -> bool:
    """Whether a series is done, and whoever goes on finds it, and another one has begun."""
    try:
        has_begun = any(place.path.glob(".partial-*/*/slice_0001.dcm"))
    except FileNotFoundError:  # a folder that was just removed
        return False
    return has_begun and any(name.endswith("slice_0001.dcm") and not name.startswith(".") for name in place.names())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_the_worker_ends_with_the_program(make_series, model, tmp_path, place, number, code):
    """The same command does what is left: in object storage, on another machine."""
    for name, num_slices in (("first", 14), ("second", 12)):
        make_series(tmp_path / "in" / name, num_slices=num_slices)
    command = [*place.python, ROOT / "ltdiff" / "cli.py", "standardize", tmp_path / "in", "--model", model]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    options = ["--out", place.argument, "--set", f"inference.num_inference_steps={SLOW.num_inference_steps}"]
    with subprocess.Popen([*map(str, command), *options], stderr=subprocess.PIPE, text=True, env=environment) as program:
        while not is_writing(place):
            assert program.poll() is None
            time.sleep(0.01)
        workers = psutil.Process(program.pid).children(recursive=True)
        program.send_signal(number)
        assert program.wait() == code
    assert workers
    for worker in workers:
        worker.wait()
    if number == signal.SIGTERM:
        assert not list(place.path.glob(".partial-*"))
    place.move()
    with place.written() as out:
        results = standardize_archive(tmp_path / "in", model=model, out=out, inference=SLOW)
        assert not list(out.glob(".partial-*"))
    assert [one.status for one in results] == ["present", "written"]
    assert sorted(one.num_slices for one in find_series(place.result())[0]) == [12, 14]


def test_a_full_disk_is_said(make_series, model, tmp_path):
    make_series(tmp_path / "in", num_slices=60)
    with small_disk(tmp_path / "disk", size_kb=200) as disk:
        (result,) = standardize_archive(tmp_path / "in", model=model, out=disk / "out")
        assert (result.status, result.output) == ("fail", None)
        assert result.reason.endswith("slice_0001.dcm: no space left on device")
        assert not list((disk / "out").glob(".partial-*"))
