"""A phase whose driver is killed, interrupted or told to stop, and a cluster that loses a node: nothing is lost, nothing lingers.
In a folder; and in object storage, where another machine goes on. And one that is trained by more workers.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import yaml
from ray.cluster_utils import Cluster
from run_places import FolderPlace, reported_steps
from small_disk import fill, small_disk
from tiny_run import tiny_settings, write_pairs

from ltdiff.model.model_folder import read_description, weights_sha256
from ltdiff.system.ray_cluster import ray_session
from ltdiff.training import ray_driver
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER, find_checkpoint
from ltdiff.training.config import PhaseConfig
from ltdiff.training.ray_driver import num_cpus_needed, train_on_ray
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NUM_STEPS, EVERY = 160, 10
LONG, SELDOM = 4000, 250
REGULAR = set(range(SELDOM, LONG + 1, SELDOM))
PHASES = {"autoencoder": PhaseConfig(0), "ddpm": PhaseConfig(NUM_STEPS), "joint": PhaseConfig(0)}
ORPHANS_S = 10.0
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
RAY_AGENTS_S = 90.0
"""Ray's own agents wait a minute for the dead cluster to take their last words; nothing that we can set makes it shorter."""


def settings(**training):
    return tiny_settings(**(PHASES | {"checkpoint_every_steps": EVERY} | training))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a manifest and settings."""
    folder = tmp_path_factory.mktemp("faults")
    write_pairs(folder)
    (folder / "settings.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(asdict(settings())))))
    return folder


def start(folder, place, *changes):
    """The job that trains phase 2 there, as a process of its own."""
    command = [*place.python, ROOT / "jobs" / "train_ddpm.py", folder / "pairs.parquet"]
    options = ["--out", place.argument, "--config", folder / "settings.yaml", *changes]
    return subprocess.Popen([*command, *options], cwd=ROOT, env=os.environ | {"RAY_DATA_DISABLE_PROGRESS_BARS": "1"})


def checkpoints(place):
    """The names of those that whoever goes on finds."""
    start = f"ddpm/{CHECKPOINTS_FOLDER}/step_"
    return {Path(name).parent.name for name in place.names() if name.startswith(start)}


def wait_for_checkpoints(place, *, process=None, at_least=1):
    deadline_s = time.monotonic() + 300
    while len(checkpoints(place)) < at_least:
        assert time.monotonic() < deadline_s
        assert process is None or process.poll() is None
        time.sleep(0.05)


def checkpoint_name(step):
    return f"step_{int(step):08d}"


def assert_gone(processes):
    """None of them is alive after a few seconds, but for agents of Ray itself."""
    _, alive = psutil.wait_procs(processes, timeout=ORPHANS_S)
    alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert [process.name() for process in alive if process.name() not in RAY_AGENTS] == []
    _, alive = psutil.wait_procs(alive, timeout=RAY_AGENTS_S)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def undisturbed(folder):
    """The weights of a run that nothing disturbs."""
    assert start(folder, FolderPlace(folder / "undisturbed")).wait(timeout=300) == 0
    return weights_sha256(folder / "undisturbed" / MODEL_FOLDER)


def test_a_killed_driver_leaves_no_process_and_the_same_command_goes_on(folder, undisturbed, place):
    process = start(folder, place)
    wait_for_checkpoints(place, process=process)
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert descendants
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert_gone(descendants)
    before = reported_steps(place, "ddpm")
    assert max(before) < NUM_STEPS
    place.move()
    assert start(folder, place).wait(timeout=300) == 0
    assert EVERY < reported_steps(place, "ddpm")[len(before)] <= max(before) + EVERY  # no more than an interval was done again
    assert weights_sha256(place.result() / MODEL_FOLDER) == undisturbed


def test_killed_it_goes_on_with_more_workers(folder, undisturbed, place):
    """With as many patches in all: the loss is that of one worker, but for rounding; validation patches are each worker's own."""
    process = start(folder, place)
    wait_for_checkpoints(place, process=process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    num_before = len(reported_steps(place, "ddpm"))
    place.move()
    changes = ("--set", "training.num_workers=2", "--set", "training.batch_size_per_worker=1")
    assert start(folder, place, *changes).wait(timeout=300) == 0
    runs = (place.result(), folder / "undisturbed")
    lines = [[json.loads(line) for line in (run / "ddpm" / METRICS_FILE).read_text().splitlines()] for run in runs]
    wanted = {line["step"]: line["loss"] for line in lines[1]}
    assert len(lines[0]) > num_before
    for line in lines[0][num_before:]:
        assert line["loss"] == pytest.approx(wanted[line["step"]], rel=1e-2)
    assert any("num_workers was 1, now 2" in change for change in read_description(runs[0] / MODEL_FOLDER)["about"]["changes"])


def test_interrupted_it_ends_and_says_so(folder, place, capfd):
    """As by Ctrl-C; Ray Train handles it itself, and would end with another exit code."""
    process = start(folder, place)
    wait_for_checkpoints(place, process=process)
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "interrupted; run the same command again to resume" in capfd.readouterr().err
    assert_gone(descendants)
    assert max(checkpoints(place)) == checkpoint_name(reported_steps(place, "ddpm")[-1])


def test_told_to_stop_it_writes_a_checkpoint_and_says_so_by_its_exit_code(folder, undisturbed, place):
    process = start(folder, place)
    wait_for_checkpoints(place, process=process)
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert_gone(descendants)
    before = reported_steps(place, "ddpm")
    assert max(checkpoints(place)) == checkpoint_name(before[-1])
    assert before[-1] < NUM_STEPS
    place.move()
    assert start(folder, place).wait(timeout=300) == 0
    steps = reported_steps(place, "ddpm")
    assert steps[: len(before)] == before
    assert steps[len(before)] > before[-1]
    assert steps[-1] == NUM_STEPS
    assert weights_sha256(place.result() / MODEL_FOLDER) == undisturbed


@pytest.mark.parametrize("is_remote", [False, True], ids=["folder", "storage"])
def test_with_no_space_left_it_ends_saying_so_and_goes_on_once_there_is(
    folder, undisturbed, tmp_path, capfd, monkeypatch, request, is_remote
):
    """For the run, or for its local copy."""
    with small_disk(tmp_path / "disk", size_kb=16_000) as disk:
        place = request.getfixturevalue("storage_place") if is_remote else FolderPlace(disk / "run")
        monkeypatch.setenv("LTDIFF_CACHE", str(disk / "cache"))
        run, here = place.path, FolderPlace(place.path)
        process = start(folder, place)
        wait_for_checkpoints(here, process=process, at_least=2)
        ballast = fill(disk)
        assert process.wait(timeout=300) == 1
        written = capfd.readouterr().err
        assert "No space left on device" in written.splitlines()[-1], written
        steps = reported_steps(here, "ddpm")
        assert find_checkpoint(run / "ddpm" / CHECKPOINTS_FOLDER).name == checkpoint_name(steps[-1])
        assert steps[-1] < NUM_STEPS
        ballast.unlink()
        assert start(folder, place).wait(timeout=300) == 0
        assert reported_steps(here, "ddpm")[len(steps)] == steps[-1] + EVERY
        place.move()
        assert weights_sha256(place.result() / MODEL_FOLDER) == undisturbed


def note_nodes(notes, monkeypatch):
    """A folder with a file for each worker: the nodes that it has been on, line by line."""
    notes.mkdir()
    work = ray_driver.work

    def noting(job):
        rank = ray.train.get_context().get_world_rank()
        with (notes / str(rank)).open("a") as file:
            file.write(ray.get_runtime_context().get_node_id() + "\n")
        work(job)

    monkeypatch.setattr(ray_driver, "work", noting)
    return notes


def test_a_cluster_that_loses_a_node_trains_to_the_end(folder, place, tmp_path, monkeypatch):
    """Four workers over three nodes; the node of one of them dies, and the two others have room for all."""
    notes, here = note_nodes(tmp_path / "nodes", monkeypatch), FolderPlace(place.path)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    try:
        nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=3) for _ in range(3))}
        ray.init(address=cluster.address, logging_level="ERROR")
        lost = []

        def lose_a_node():
            wait_for_checkpoints(here)
            lost.append((notes / "0").read_text().split()[0])
            cluster.remove_node(nodes[lost[0]], allow_graceful=False)

        thread = threading.Thread(target=lose_a_node)
        thread.start()
        with place.written() as run:
            train_on_ray(["ddpm"], manifest_path=folder / "pairs.parquet", out=run, settings=settings(num_workers=4))
        thread.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    places = [(notes / str(rank)).read_text().split() for rank in range(4)]
    assert len({before for before, *_ in places}) > 1  # spread
    assert lost[0] in {before for before, *_ in places}
    assert all(len(of_rank) == 2 and of_rank[1] != lost[0] for of_rank in places)
    place.move()
    steps = reported_steps(place, "ddpm")
    assert read_description(place.result() / MODEL_FOLDER)["about"]["trained"]["ddpm"]["step"] in steps
    assert steps == sorted(steps)  # it went on from a checkpoint
    assert set(steps) == set(range(EVERY, NUM_STEPS + 1, EVERY))


def test_told_that_a_node_will_go_it_writes_a_checkpoint_and_goes_on_elsewhere(folder, place, tmp_path, monkeypatch, capfd):
    """As spot instances are taken away: the node is drained, and gone some seconds later."""
    notes, here = note_nodes(tmp_path / "drained", monkeypatch), FolderPlace(place.path)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    try:
        nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=3) for _ in range(2))}
        ray.init(address=cluster.address, logging_level="ERROR")

        def preempt():
            wait_for_checkpoints(here)
            first = (notes / "0").read_text().split()[0]
            drain = ["drain-node", "--node-id", first, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
            told = ["--deadline-remaining-seconds", "60", "--address", cluster.address]
            subprocess.run([Path(sys.executable).with_name("ray"), *drain, *told], check=True)
            while set(steps := reported_steps(here, "ddpm")) <= REGULAR and LONG not in steps:
                time.sleep(0.05)
            cluster.remove_node(nodes[first], allow_graceful=False)

        settings_of_run = settings(ddpm=PhaseConfig(LONG), checkpoint_every_steps=SELDOM)
        with ThreadPoolExecutor(1) as pool, place.written() as run:
            preempting = pool.submit(preempt)
            train_on_ray(["ddpm"], manifest_path=folder / "pairs.parquet", out=run, settings=settings_of_run)
            preempting.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
    place.move()
    steps = reported_steps(place, "ddpm")
    assert len(set(steps) - REGULAR) == 1, "a checkpoint at the notice"
    assert steps == sorted(steps), "from which it went on"
    assert steps[-1] == LONG
    assert len(set((notes / "0").read_text().split())) == 2
    assert "a node of this run is about to be taken away" in capfd.readouterr().err


def test_more_workers_with_as_many_patches_in_all_follow_the_same_loss(folder):
    """Four patches a step by one, two and four workers: the same patches and noise, so the curves differ by rounding alone."""
    losses = {}
    with ray_session(num_cpus=num_cpus_needed(settings(num_workers=4)), dashboard=True):
        for num_workers in (1, 2, 4):
            run = folder / f"{num_workers} workers"
            train_on_ray(
                ["ddpm"],
                manifest_path=folder / "pairs.parquet",
                out=run,
                settings=settings(num_workers=num_workers, batch_size_per_worker=4 // num_workers, ddpm=PhaseConfig(4 * EVERY)),
            )
            lines = (run / "ddpm" / METRICS_FILE).read_text().splitlines()
            losses[num_workers] = [[json.loads(line)[key] for key in ("loss", "val_loss")] for line in lines]
    assert len(losses[1]) == 4
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-3)
    np.testing.assert_allclose(losses[4], losses[1], rtol=1e-3)
