"""A run that is logged, and folders that look like models, for the tests of the registry."""

import hashlib
import json
import re
import urllib.request
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ltdiff.model.model_folder import FORMAT_VERSION
from ltdiff.registry.runs import RunFacts, log_run

WEIGHTS = ("encoder.safetensors", "denoiser.safetensors", "decoder.safetensors")


def uri_of(out: Path) -> str:
    return f"sqlite:///{out}/mlflow.db"


PARAMETERS = {"seed": 7, "bridge": {"kappa": 0.1, "steps": [1, 4]}, "data": Path("/archive/DOE^JANE")}


def facts(run_key: str, **changes) -> RunFacts:
    return RunFacts(**({"name": "joint", "key": run_key, "data_fingerprint": "d" * 64, "parameters": PARAMETERS} | changes))


def log(out: Path, run_key: str, *, parameters=PARAMETERS, **changes) -> str | None:
    arguments = {
        "out": out,
        "metrics": {"ccc": 0.98},
        "history": [{"step": 1, "loss": 2.0, "phase": "joint"}, {"step": 2, "loss": 1.5}],
    }
    return log_run(facts(run_key, parameters=parameters), **(arguments | changes))


DESCRIPTION = {"format_version": FORMAT_VERSION, "config": {}, "kernel_match": {"gains": [1.0, 0.5]}, "about": {}}


def write_model(folder: Path, *, value: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    for name in WEIGHTS:
        save_file({"weight": np.full(4, value, np.float32)}, folder / name)
    describe(folder)
    return folder


def describe(folder: Path, **extra: str) -> None:
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in WEIGHTS} | extra
    (folder / "model.json").write_text(json.dumps(DESCRIPTION | {"files": files}))


def fail(*args):
    raise ConnectionError("gone")


def stored(client, name: str, version: int) -> Path:
    """Where the files of a registered version lie."""
    source = client.get_model_version(name, str(version)).source
    run_id, path = re.fullmatch(r"runs:/(\w+)/(.+)", source).groups()
    return Path(urllib.request.url2pathname(client.get_run(run_id).info.artifact_uri.removeprefix("file://")), path)
