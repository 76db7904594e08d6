"""`ltdiff train`, and the jobs that train one of its phases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from ltdiff.commands.command_line import Config, Hidden, Set, UsageError, resolve_model

NUM_STEPS = tuple(f"training.{phase}.num_steps" for phase in ("autoencoder", "ddpm", "joint", "residual"))
"""Settings that minutes take the place of."""


def train(
    pairs: Path,
    /,
    *,
    out: Path,
    minutes: float | None = None,
    networks: str | None = None,
    allow_changes: bool = False,
    tracking_uri: str | None = None,
    config: Config = "default",
    settings: Set = (),
    phases: Annotated[Sequence[str], Hidden] = (),
) -> int:
    """Train all phases on Ray, calibrate the model and register it.

    Run it again to resume.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        out: Folder of the run; the model will be in its folder `model`.
        minutes: Training time, instead of the settings' steps, on one worker. Trials of three learning rates come on top.
        networks: Folder of a trained model, or models:/ltdiff@champion, for the same target kernel: its networks are used as they
            are, and the match of these data alone is fitted.
        allow_changes: Resume a run that began with other settings (not of the networks) or data; its model says so. Another
            number of workers needs no such leave.
        tracking_uri: MLflow server; without it MLFLOW_TRACKING_URI, or a SQLite file in the run's folder.
    """
    from ltdiff.commands.configuration import TRAINING_SECTIONS, read_settings_of

    if networks is not None:
        if minutes is not None or allow_changes or settings or config != "default":
            raise UsageError("--networks has the settings of its training: no --minutes, --config, --set or --allow_changes")
        print(f"model: {_match(pairs, networks=networks, out=out, tracking_uri=tracking_uri)}")
        return 0
    unused, options = () if minutes is None else NUM_STEPS, {"training.minutes": minutes}
    run = read_settings_of(config, settings, sections=TRAINING_SECTIONS, unused=unused, options=options).run

    from ltdiff.training.finish_run import finish_run
    from ltdiff.training.phases import PHASES
    from ltdiff.training.ray_driver import train_on_ray

    phases = list(phases or PHASES)
    is_last = phases[-1] == list(PHASES)[-1]
    train_on_ray(
        phases, manifest_path=pairs, out=out, settings=run, allow_changes=allow_changes, tracking_uri=tracking_uri, in_mlflow=True
    )
    if is_last:
        print(f"model: {finish_run(pairs, out=out, tracking_uri=tracking_uri)}")
    return 0


def _match(pairs: Path, *, networks: str, out: Path, tracking_uri: str | None) -> Path:
    """The model of trained networks and of a match of their own."""
    from ltdiff.data.manifest import read_manifest
    from ltdiff.training.finish_run import finish_run
    from ltdiff.training.shared_networks import match_networks

    match_networks(read_manifest(pairs), networks=resolve_model(networks), out=out)
    return finish_run(pairs, out=out, tracking_uri=tracking_uri)
