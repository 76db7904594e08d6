"""The program `ltdiff`: the table of its commands, each of which is imported when it is called."""

import sys

from ltdiff.commands.command_line import make_app, run

COMMANDS = {
    "demo": "ltdiff.commands.demo_command:demo",
    "survey": "ltdiff.commands.survey_command:survey",
    "find-pairs": "ltdiff.commands.find_pairs_command:find_pairs",
    "pair": "ltdiff.commands.pair_command:pair",
    "simulate": "ltdiff.commands.simulate_command:simulate",
    "train": "ltdiff.commands.train_command:train",
    "tune": "ltdiff.commands.tune_command:tune",
    "harmonize": "ltdiff.commands.harmonize_command:harmonize",
    "standardize": "ltdiff.commands.standardize_command:standardize",
    "evaluate": "ltdiff.commands.evaluate_command:evaluate",
    "compare": "ltdiff.commands.compare_command:compare",
    "calibrate": "ltdiff.commands.calibrate_command:calibrate",
    "uncertainty": "ltdiff.commands.uncertainty_command:uncertainty",
    "radiomics": "ltdiff.commands.radiomics_command:radiomics",
    "harmonize-features": "ltdiff.commands.harmonize_features_command:app",
    "endpoints": "ltdiff.commands.endpoints_command:endpoints",
    "models": "ltdiff.commands.models_command:app",
    "settings": "ltdiff.commands.settings_command:settings",
}
"""Name → module:function. The modules import what is heavy inside their functions, so that help takes no time."""


def run_ltdiff(arguments: list[str] | None = None) -> int:
    """Run `ltdiff` with `arguments`, those of the program by default; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    app = make_app(name="ltdiff", about="Make CT images of different kernels comparable. Not for diagnostic use.")
    for number, (name, function) in enumerate(COMMANDS.items()):
        app.command(function, name=name, sort_key=number)
    app.register_install_completion_command(name="completion", add_to_startup=False, sort_key=len(COMMANDS))
    if arguments[:1] in ([], ["--help"], ["-h"]):
        _ = [app[name] for name in COMMANDS]  # the help of all is in their docstrings
    return run(app, arguments)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_ltdiff())


if __name__ == "__main__":
    main()
