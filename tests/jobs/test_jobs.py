"""Jobs as scripts: alone by Python, and by `ray job submit` on a token-protected cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from dicom_files import identity
from mlflow_servers import free_port
from ray._private.runtime_env.packaging import create_package
from tiny_run import SPACING_MM, make_volumes, save_tiny_model, tiny_settings, write_pairs

from ltdiff.dicom.write_original import write_ct_series
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluate_model import evaluate_model
from ltdiff.inference.config import InferenceConfig
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.dataset import simulate
from ltdiff.simulation.kernels import Kernel
from ltdiff.simulation.scanner import Scanner
from ltdiff.training.config import PhaseConfig

REPOSITORY = Path(__file__).parents[2]
JOBS = sorted(path.name for path in (REPOSITORY / "jobs").glob("*.py"))
START_S = 90


def test_every_stage_has_its_job():
    stages = ["train_autoencoder.py", "train_ddpm.py", "train_joint.py", "standardize.py", "evaluate.py", "compare.py"]
    assert sorted([*stages, "harmonize.py", "measure_mtf.py", "pretrain.py", "survey.py"]) == JOBS


@pytest.mark.parametrize("job", ["train_ddpm.py", "standardize.py", "evaluate.py", "compare.py", "measure_mtf.py", "survey.py"])
def test_a_job_without_arguments_says_which_it_needs(job):
    done = subprocess.run([sys.executable, f"jobs/{job}"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "requires an argument" in done.stderr


def test_a_submitted_folder_takes_code_and_settings_and_no_images_along(tmp_path):
    shutil.copy(REPOSITORY / ".rayignore", tmp_path)
    taken = ["jobs/train_ddpm.py", "ltdiff/configs/paper.yaml", "tuning/trial.py", "mine.yaml", "constraints.txt"]
    left = ["derived/1.2/slice_0001.dcm", "pairs.parquet", "runs/first/model/model.json", "scan.nii.gz"]
    for name in [*taken, *left]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    package = tmp_path / "package.zip"
    create_package(str(tmp_path), package, include_gitignore=True)
    assert {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")} == set(taken)


def test_the_mtf_is_measured_by_the_simulation_s_own_file(tmp_path):
    scanner = Scanner(num_views=240, num_detectors=256, detector_pitch_mm=2.0)
    kernels = (Kernel("softer", (1.0, 0.7, 0.4, 0.2, 0.0)), Kernel("sharper", (1.0, 1.2, 1.4, 1.2, 0.5)))
    names = {"source_kernel": "softer", "target_kernel": "sharper"}
    config = SimulationConfig(num_patients=1, num_slices=1, matrix=64, scanner=scanner, custom_kernels=kernels, **names)
    simulate(tmp_path / "archive", config=config)
    save_tiny_model(tmp_path / "model", source_kernel="softer", target_kernel="sharper")
    arguments = [str(tmp_path / "model"), "--simulation", str(tmp_path / "archive" / "simulation.json")]
    arguments += ["--out", str(tmp_path / "out"), "--num_images", "2"]
    done = subprocess.run(
        [sys.executable, "jobs/measure_mtf.py", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| -800 in 0 HU" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mtf.csv", "mtf.md", "mtf.png"}


@pytest.mark.slow
def test_evaluating_on_ray_gives_the_same_table_and_does_the_rest_the_second_time(tmp_path):
    pairs = write_pairs(tmp_path)
    model = save_tiny_model(tmp_path / "model", source_kernel="B", target_kernel="L")
    config = EvaluationConfig(num_rois=6, features="catalogue")
    evaluate_model(pairs, model=model, out=tmp_path / "here", config=config, inference=InferenceConfig())
    arguments = [str(pairs), "--model", str(model), "--out", str(tmp_path / "out"), "--features", "catalogue"]
    command = [sys.executable, "jobs/evaluate.py", *arguments, "--set", "evaluation.num_rois=6"]
    for _ in range(2):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "report:" in done.stdout
        here, there = (pd.read_csv(tmp_path / name / "ccc.csv") for name in ("here", "out"))
        pd.testing.assert_frame_equal(there, here)
    assert "regions were done before" in done.stderr
    assert "starting a local Ray" not in done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Environment of a client of a cluster with one node, which asks for a token."""
    port, dashboard, agent = free_port(), free_port(), free_port()
    token = tmp_path_factory.mktemp("cluster") / "token"
    token.write_text("0" * 64)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "PYTHONPATH": str(REPOSITORY),
    }
    options = [f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=6", "--object-store-memory=500000000"]
    options += [f"--dashboard-agent-listen-port={agent}"]  # its default is one port for all clusters of a machine
    head = subprocess.Popen(
        ["ray", "start", "--head", "--block", *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield environment | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(60)
    finally:
        head.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_submitted_phase_leaves_its_model_and_fails_truthfully_out_of_order(cluster, tmp_path):
    pairs = write_pairs(tmp_path)
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps(asdict(tiny_settings())))
    arguments = [str(pairs), "--out", str(tmp_path / "run"), "--config", str(settings)]
    done = _submit(cluster, "train_autoencoder.py", arguments)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "run" / "autoencoder" / "model" / "model.json").is_file()
    done = _submit(cluster, "train_joint.py", arguments)
    assert done.returncode != 0
    assert "phase ddpm must be trained first" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_runs_as_a_job(cluster, tmp_path):
    write_ct_series(make_volumes()[0], out_dir=tmp_path / "scan", identity=identity(kernel="B"), spacing_mm=SPACING_MM)
    done = _submit(cluster, "-m", ["ltdiff.cli", "survey", str(tmp_path / "scan"), "--out", str(tmp_path / "survey")])
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "survey" / "protocols.csv").is_file()
    refused = _submit(
        cluster, "-m", ["ltdiff.cli", "pair", str(tmp_path / "scan"), "--target_kernel", "B", "--out", "pairs.parquet"]
    )
    assert refused.returncode == 1
    assert "'pairs.parquet' is relative" in refused.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stopped_job_has_a_checkpoint_and_goes_on_when_it_is_submitted_again(cluster, tmp_path):
    pairs, run, settings = write_pairs(tmp_path), tmp_path / "run", tmp_path / "settings.yaml"
    phases = {"autoencoder": PhaseConfig(0), "ddpm": PhaseConfig(150), "joint": PhaseConfig(0)}
    settings.write_text(json.dumps(asdict(tiny_settings(checkpoint_every_steps=10, **phases))))
    arguments = [str(pairs), "--out", str(run), "--config", str(settings)]
    _submit(cluster, "train_ddpm.py", arguments, "--no-wait", "--submission-id=first")
    deadline_s = time.monotonic() + 200
    while not list(run.glob("ddpm/checkpoints/step_*")):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    stopped = subprocess.run(["ray", "job", "stop", "first"], env=cluster, capture_output=True, text=True, timeout=120)
    assert "was stopped" in stopped.stdout + stopped.stderr
    metrics = run / "ddpm" / "metrics.jsonl"
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["step"] < 150
    assert (run / "ddpm" / "checkpoints" / f"step_{int(last['step']):08d}").is_dir()
    done = _submit(cluster, "train_ddpm.py", arguments)
    assert done.returncode == 0, done.stdout
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == 150


def _submit(environment, job, arguments, *options):
    folder = str(REPOSITORY / "jobs")
    command = ["ray", "job", "submit", *options, "--working-dir", folder, "--", "python", job, *arguments]
    deadline_s = time.monotonic() + START_S
    while True:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
        )
        if "Failed to connect" not in done.stdout and "No available agent" not in done.stdout:
            return done
        if time.monotonic() > deadline_s:
            raise TimeoutError(done.stdout)
        time.sleep(1)  # the server is not up yet
