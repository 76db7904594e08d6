"""`ltdiff tune`."""

from pathlib import Path

from ltdiff.commands.command_line import Config, Set


def tune(
    pairs: Path,
    /,
    *,
    out: Path,
    num_trials: int | None = None,
    space: Path | None = None,
    earlier: tuple[Path, ...] = (),
    no_train_best: bool = False,
    tracking_uri: str | None = None,
    config: Config = "default",
    settings: Set = (),
) -> int:
    """Search hyper-parameters by short trainings scored on validation pairs, then train the best few at full length.

    Run it again to resume, with a larger number of trials to go on with the search.

    Args:
        pairs: Manifest written by `ltdiff pair`; its test pairs are not used.
        out: Folder for the trials, their table, the best settings (best.yaml) and the model trained with them.
        num_trials: Trials in all; the default is search.num_trials of the settings.
        space: YAML file with the settings to search; the default are the noise process and its schedule, the weights of the
            losses, the latent channels and the learning rates.
        earlier: Known settings to begin with, after those given: a YAML file, such as the best.yaml of a search, or the folder of
            a search. May be repeated.
        no_train_best: End with the short trainings; train no model at full length.
        tracking_uri: MLflow server; without it MLFLOW_TRACKING_URI, or a SQLite file in the search's folder.
    """
    from ltdiff.commands.configuration import TRAINING_SECTIONS, read_settings_of

    configuration = read_settings_of(
        config, settings, sections=[*TRAINING_SECTIONS, "search"], options={"search.num_trials": num_trials}
    )

    from ltdiff.search.tune import search

    report = search(
        pairs,
        out=out,
        config=configuration.search,
        settings=configuration.run,
        space=space,
        earlier=earlier,
        train_best=not no_train_best,
        tracking_uri=tracking_uri,
    )
    print(f"{report}\nreport: {out / 'report.md'}")
    return 0
