"""Runs and models in MLflow: log a finished run, register the model it made, load it back with its hashes checked.

    run_id = log_run("joint", out=out, run_key=weights_sha256, data_fingerprint=…, parameters=…, metrics=…, history=…)
    if run_id is not None:
        register_model(out / "model", run_id=run_id, out=out)
    folder = download("models:/ltdiff@champion", out_dir=cache)

Training does not depend on MLflow: where it is down, hangs or fails, `log_run` and `register_model` say so in one warning
and return None, and the same call, later, adds what is missing. Nothing given to this package may name a patient.
"""

from ltdiff.registry.client import find_tracking_uri
from ltdiff.registry.register import read_validation, register_model
from ltdiff.registry.runs import code_version, log_run
from ltdiff.registry.versions import ModelVersion, download, export_model, find_model, list_models, read_run, set_champion

__all__ = [
    "ModelVersion",
    "code_version",
    "download",
    "export_model",
    "find_model",
    "find_tracking_uri",
    "list_models",
    "log_run",
    "read_run",
    "read_validation",
    "register_model",
    "set_champion",
]
