"""`ltdiff simulate`."""

from pathlib import Path

from ltdiff.commands.command_line import Config, Set


def simulate(*, out: Path, num_workers: int = 2, config: Config = "default", settings: Set = ()) -> int:
    """Write paired CT series of simulated patients, with lesions whose masks are exact.

    Run it again to resume.

    Args:
        out: Folder for the archive.
        num_workers: Processes.
    """
    from ltdiff.commands.configuration import read_settings_of

    configuration = read_settings_of(config, settings, sections=["simulation"])

    from ltdiff.simulation.dataset import simulate as simulate_patients

    simulate_patients(out, config=configuration.simulation, num_workers=num_workers)
    return 0
