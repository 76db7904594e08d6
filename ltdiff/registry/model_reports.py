"""What is measured of a registered model later on becomes part of the run that trained it: reports, tables and figures."""

from pathlib import Path

from ltdiff.registry.client import attempt, find_tracking_uri, open_client, sqlite_file
from ltdiff.registry.register import find_registered


def log_report(model: Path, report: Path, *, place: str) -> None:
    """Add the files of the folder `report` to the run of the model in the folder `model`, as artifacts below `place`.

    The registry is that of MLFLOW_TRACKING_URI, else that in the run folder around the model. Nothing is done where there is
    none, or it does not have this model; one that is down costs one warning.
    """
    uri = find_tracking_uri(model.absolute().parent, None)
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        return

    def log() -> None:
        with open_client(uri) as client:
            version = find_registered(client, model)
            if version is not None:
                client.log_artifacts(version.run_id, str(report), place)

    attempt(log, f"the report was not added to the model's run in MLflow, as {place}")
