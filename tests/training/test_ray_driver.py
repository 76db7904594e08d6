"""Ray Train for real: two workers, each with a GPU of its own that exists as a permit only, and one of them killed."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.train
import torch
from tiny_run import make_volumes, tiny_settings, write_pairs

from ltdiff.data.manifest import read_manifest, write_manifest
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.ltdiff import load_model
from ltdiff.model.model_folder import CALIBRATION_FILE, read_description, weights_sha256
from ltdiff.system.lock import LOCK_FILE, only_writer
from ltdiff.system.ray_cluster import ray_session
from ltdiff.training import finish_run, ray_driver, ray_worker
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, FORMAT_VERSION, META_FILE, find_checkpoint
from ltdiff.training.config import PhaseConfig
from ltdiff.training.phase_training import RATES_FILE, train_here
from ltdiff.training.phases import PHASES
from ltdiff.training.ray_driver import num_cpus_needed, train_on_ray
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER, prepare_run

pytestmark = pytest.mark.ray

NUM_STEPS = 6
SETTINGS = tiny_settings(num_workers=2, use_gpu=True, autoencoder=PhaseConfig(0), joint=PhaseConfig(0),
                         ddpm=PhaseConfig(NUM_STEPS))  # fmt: skip

TIMED = replace(tiny_settings(ddpm=PhaseConfig(0)).training, minutes=0.02, learning_rates=(2e-3, 1e-3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a manifest, while Ray runs."""
    if torch.cuda.device_count() == 1:
        pytest.skip("two workers need two GPUs, or none that torch sees")
    folder = tmp_path_factory.mktemp("ray")
    write_pairs(folder)
    with ray_session(num_cpus=num_cpus_needed(SETTINGS), num_gpus=2, dashboard=True):
        yield folder


def _train(folder, name, *, kill_once=False):
    """Train in the folder `name`; notes what each worker found. The second one dies after the first checkpoint."""
    notes = folder / f"{name} notes"
    notes.mkdir(exist_ok=True)
    checkpoints = folder / name / "ddpm" / CHECKPOINTS_FOLDER
    work, report = ray_driver.work, ray_worker.Reporter.__call__

    def report_and_die(self, metrics, checkpoint):
        report(self, metrics, checkpoint)
        while not list(checkpoints.glob("step_*")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    def watched(task):
        rank, is_first = ray.train.get_context().get_world_rank(), len(list(notes.iterdir())) < 2
        note = {
            "rank": rank,
            "gpus": ray.get_runtime_context().get_accelerator_ids()["GPU"],
            "device": str(ray_worker.worker_context(ray_worker.Reporter(checkpoints)).device),
            "resumes": find_checkpoint(checkpoints) is not None,
        }
        (notes / f"{'first' if is_first else 'second'} {rank}.json").write_text(json.dumps(note))
        if kill_once and is_first and rank == 1:
            ray_worker.Reporter.__call__ = report_and_die
        work(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_driver, "work", watched)
        patch.chdir(folder)  # relative paths are those of the driver
        result = train_on_ray(["ddpm"], manifest_path=Path("pairs.parquet"), out=Path(name), settings=SETTINGS)
    return result, [json.loads(path.read_text()) for path in sorted(notes.iterdir())]


@pytest.fixture(scope="module")
def trained(folder):
    """(result, what the workers noted) of a run that nothing disturbed."""
    return _train(folder, "whole")


def test_a_run_leaves_a_model_that_standardizes(folder, trained):
    result, _ = trained
    start, _ = load_model(folder / "whole" / "start")
    model, about = load_model(folder / "whole" / MODEL_FOLDER)
    assert result.is_dir()
    mask = os.umask(0)
    os.umask(mask)
    assert result.stat().st_mode & 0o777 == 0o777 & ~mask  # not Ray's own, which lets nobody else read
    assert about["trained"]["ddpm"]["step"] in (2, 4, NUM_STEPS)
    assert all(torch.equal(a, b) for a, b in zip(start.decoder.parameters(), model.decoder.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(start.denoiser.parameters(), model.denoiser.parameters(), strict=True))
    hu = make_volumes()[0].astype(np.float32)
    assert Standardizer.load(folder / "whole" / MODEL_FOLDER).standardize(hu, (0.8, 0.7)).shape == hu.shape


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_in_a_cluster_a_worker_calibrates(folder, trained, monkeypatch):
    monkeypatch.setattr(finish_run, "named_cluster", lambda: "the one that is joined")
    monkeypatch.setattr(finish_run, "calibrate_run", None)  # not in this process
    finish_run._calibrate(folder / "pairs.parquet", folder / "whole" / MODEL_FOLDER)
    assert (folder / "whole" / MODEL_FOLDER / CALIBRATION_FILE).is_file()


def test_every_report_is_kept(folder, trained):
    lines = [json.loads(line) for line in (folder / "whole" / "ddpm" / METRICS_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all({"loss", "val_loss"} <= set(line) for line in lines)


def test_each_worker_has_a_gpu_of_its_own(trained):
    _, notes = trained
    assert sorted(note["rank"] for note in notes) == [0, 1]
    assert sorted(note["gpus"] for note in notes) == [["0"], ["1"]]
    if not torch.cuda.is_available():
        assert {note["device"] for note in notes} == {"cpu"}


@pytest.mark.usefixtures("trained")
def test_the_same_command_again_does_nothing(folder):
    def times():
        files = (folder / "whole").rglob("*")
        return {path: path.stat().st_mtime_ns for path in files if path.name != LOCK_FILE and path != folder / "whole"}

    before = times()
    _, notes = _train(folder, "whole")
    assert times() == before
    assert len(notes) == 2  # no worker was started


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_killed_worker_changes_nothing(folder):
    """Ray starts both anew from the last checkpoint, and the weights come out bit by bit as if nothing had happened."""
    _, notes = _train(folder, "killed", kill_once=True)
    assert [(note["rank"], note["resumes"]) for note in notes] == [(0, False), (1, False), (0, True), (1, True)]
    assert weights_sha256(folder / "killed" / MODEL_FOLDER) == weights_sha256(folder / "whole" / MODEL_FOLDER)


@pytest.fixture
def unfinished(folder, trained):
    """A copy of that run as it was after its last checkpoint, before its result was saved; and its checkpoints."""
    copy = folder / "unfinished"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "whole", copy)
    shutil.rmtree(copy / MODEL_FOLDER)
    shutil.rmtree(copy / "ddpm" / MODEL_FOLDER)
    return copy, sorted((copy / "ddpm" / CHECKPOINTS_FOLDER).iterdir())


def _damage(checkpoint):
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.slow
def test_from_a_damaged_checkpoint_it_goes_back_to_the_one_before(folder, unfinished):
    run, (*_, older, newest) = unfinished
    assert (older.name, newest.name) == ("step_00000004", "step_00000006")
    _damage(newest)
    _train(folder, "unfinished")
    steps = [json.loads(line)["step"] for line in (run / "ddpm" / METRICS_FILE).read_text().splitlines()]
    assert steps == [2, 4, 6, 6]
    assert weights_sha256(run / MODEL_FOLDER) == weights_sha256(folder / "whole" / MODEL_FOLDER)


def test_where_all_checkpoints_are_damaged_no_worker_is_started(folder, unfinished):
    _, checkpoints = unfinished
    for checkpoint in checkpoints:
        _damage(checkpoint)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be used"):
        _train(folder, "unfinished")


def test_checkpoints_of_another_format_are_refused_naming_it(folder, unfinished):
    _, checkpoints = unfinished
    for checkpoint in checkpoints:
        meta = checkpoint / META_FILE
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format_version": 1}))
    before = {path: path.read_bytes() for checkpoint in checkpoints for path in checkpoint.iterdir()}
    with pytest.raises(ValueError, match=rf"format version 1; this ltdiff reads {FORMAT_VERSION}; remove the folder"):
        _train(folder, "unfinished")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.usefixtures("trained")
def test_ray_train_keeps_no_list_of_checkpoints_that_could_be_torn(folder):
    """Its checkpoint_manager_snapshot.json, written in place, would keep a run from starting again."""
    assert not list((folder / "whole").rglob("*snapshot*"))


def test_a_second_job_on_the_same_run_is_refused_at_once(folder):
    with only_writer(folder / "taken"), pytest.raises(ValueError, match=f"taken is being written by process {os.getpid()}"):
        _train(folder, "taken")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ray.train.WorkerGroupError("long", {1: ValueError("Traceback …\n  File …\nFloatingPointError: not finite\n")}),
            "phase ddpm failed: FloatingPointError: not finite; the same command resumes it",
        ),
        (ray.train.WorkerGroupError("long", {0: MemoryError()}), "phase ddpm failed: MemoryError; the same"),
        (ray.train.ControllerError(RuntimeError("no worker came up")), "phase ddpm failed: no worker came up; the same"),
    ],
    ids=["error", "no message", "controller"],
)
def test_a_failed_phase_is_one_sentence(folder, error, sentence):
    def fail(trainer):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_driver.TorchTrainer, "fit", fail)
        with pytest.raises(ValueError, match=sentence):
            train_on_ray(["ddpm"], manifest_path=folder / "pairs.parquet", out=folder / "failing", settings=SETTINGS)


def test_a_manifest_that_was_replaced_meanwhile_is_not_trained_on(tmp_path):
    pairs, run = write_pairs(tmp_path), tmp_path / "run"
    prepare_run(read_manifest(pairs), out=run, settings=SETTINGS)
    task = ray_worker.TrainingTask(run, pairs, SETTINGS, [])
    assert len(ray_worker._read_manifest(task))
    manifest = read_manifest(pairs)
    write_manifest(manifest.assign(series_uid="other " + manifest["series_uid"]), pairs)
    with pytest.raises(ValueError, match=r"pairs\.parquet is no longer what this run began with"):
        ray_worker._read_manifest(task)


def test_too_small_a_cluster_is_refused(folder):
    settings = replace(SETTINGS, training=replace(SETTINGS.training, num_workers=3))
    with pytest.raises(ValueError, match="logical CPUs"):
        train_on_ray(["ddpm"], manifest_path=folder / "pairs.parquet", out=folder / "too many", settings=settings)


@pytest.mark.slow
def test_all_phases_are_trained_by_the_same_workers_and_a_search_can_score_them(folder):
    """`score` sees the phase as it would be kept, at every checkpoint."""
    phases = {name: PhaseConfig(4) for name in PHASES}
    settings = replace(SETTINGS, training=replace(SETTINGS.training, **phases))
    notes = folder / "scored notes"

    def make_score():
        with notes.open("a") as file:
            file.write("made\n")
        return lambda name, phase: {"num_weights": float(sum(p.numel() for p in phase.model.networks.parameters()))}

    train_on_ray(
        list(PHASES), manifest_path=folder / "pairs.parquet", out=folder / "scored", settings=settings, make_score=make_score
    )
    assert notes.read_text() == "made\n"  # the first worker, once
    model, about = load_model(folder / "scored" / MODEL_FOLDER)
    num_weights = sum(p.numel() for p in model.networks.parameters())
    for name in PHASES:
        lines = [json.loads(line) for line in (folder / "scored" / name / METRICS_FILE).read_text().splitlines()]
        assert [(line["step"], line["num_weights"]) for line in lines] == [(2, num_weights), (4, num_weights)]
        for line in lines:
            assert line.pop("time") <= time.time()
        assert about["trained"][name] == min(lines, key=lambda line: (line["val_loss"], -line["step"]))


@pytest.mark.slow
def test_a_phase_that_cannot_be_scored_fails_at_once(folder):
    """The first worker alone finds out, and the other one must not wait for it."""

    def make_score():
        def score(name, phase):
            raise FloatingPointError("the CCC of a trial is nan")

        return score

    with pytest.raises(ValueError, match="phase ddpm failed: the CCC of a trial is nan"):  # at last the test's own time limit
        train_on_ray(
            ["ddpm"], manifest_path=folder / "pairs.parquet", out=folder / "not scored", settings=SETTINGS, make_score=make_score
        )


@pytest.mark.slow
def test_a_training_that_diverges_is_not_tried_again(folder):
    """It would diverge again. All workers find out at the same step."""
    diverging = replace(SETTINGS, training=replace(SETTINGS.training, ddpm=PhaseConfig(NUM_STEPS, learning_rate=1e30)))
    notes, work = folder / "diverging notes", ray_driver.work

    def watched(task):
        if ray.train.get_context().get_world_rank() == 0:
            with notes.open("a") as file:
                file.write("started\n" if not (task.out / ray_worker.FAILURE_FILE).exists() else "ended\n")
        work(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_driver, "work", watched)
        with pytest.raises(ValueError, match=r"phase ddpm failed: the gradient at step .* is not finite"):
            train_on_ray(["ddpm"], manifest_path=folder / "pairs.parquet", out=folder / "diverging", settings=diverging)
    assert notes.read_text() == "started\nended\n"  # the workers that took their place have nothing to do


@pytest.mark.slow
def test_a_training_of_minutes_is_the_one_that_a_comparison_runs_in_its_own_process(folder):
    """The same phases, minutes, trials of learning rates and files; on Ray, and here."""
    settings = replace(tiny_settings(), training=replace(TIMED, use_gpu=True))
    train_on_ray(list(PHASES), manifest_path=folder / "pairs.parquet", out=folder / "timed", settings=settings)
    train_here(read_manifest(folder / "pairs.parquet"), out=folder / "here", settings=settings)
    trained = {name: read_description(folder / name / MODEL_FOLDER)["about"]["trained"] for name in ("timed", "here")}
    for name in TIMED.phases:
        assert trained["timed"][name].keys() == trained["here"][name].keys() >= {"step", "val_loss", "wait_share"}
        for of_run in trained.values():
            assert of_run[name]["minutes"] == TIMED.minutes_of(name)
            assert of_run[name]["learning_rate"] in TIMED.rates_of(name)
            assert of_run[name]["step"] >= 1
    for run in ("timed", "here"):
        rates = json.loads((folder / run / "joint" / RATES_FILE).read_text())
        assert set(rates) == {"0.002", "0.001"}
    files = [{path.relative_to(folder / run) for path in (folder / run).glob("*/*")} for run in ("timed", "here")]
    assert {path for path in files[0] if path.parts[0] != ray_driver.RAY_FOLDER} == files[1]
