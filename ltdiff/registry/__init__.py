"""Runs and models in MLflow: log a finished run, register the model it made, load it back with its hashes checked.

    run_id = log_run(RunFacts("joint", key=…, data_fingerprint=…, parameters=…), out=out, metrics=…, history=…)
    if run_id is not None:
        register_model(out / "model", run_id=run_id, out=out)
    folder = download("models:/ltdiff@champion", out_dir=cache)

Training does not depend on MLflow: where it is down, hangs or fails, `log_run` and `register_model` say so in one warning
and return None, and the same call, later, adds what is missing. Nothing given to this package may name a patient.
"""
