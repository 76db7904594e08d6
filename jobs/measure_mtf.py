"""Measure the MTF of a trained model beside the target kernel's, at simulated edges. Not for diagnostic use.

    ray job submit --working-dir . -- python jobs/measure_mtf.py MODEL --simulation ARCHIVE/simulation.json --out OUT

For a model that was trained on pairs of `ltdiff simulate`, which left simulation.json beside them. MODEL, ARCHIVE and OUT must be
absolute paths on storage that the node can reach. It runs in its own process, on one node, in a minute or two.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ltdiff.commands.command_line import Config, Set, run


def measure_mtf(
    model: str,
    /,
    *,
    simulation: Path,
    out: Path,
    num_images: int = 20,
    config: Config = "default",
    settings: Set = (),
) -> int:
    """Measure how source, linear match and LTDiff++ pass on edges, beside the target kernel.

    Args:
        model: Folder of a trained model, or models:/ltdiff@champion.
        simulation: The simulation.json of the archive that trained the model: scanner, kernels, dose and thickness.
        out: Folder for table (CSV, Markdown) and figure (PNG).
        num_images: Noisy images that are averaged.
    """
    from ltdiff.commands.configuration import read_settings_of
    from ltdiff.commands.model_argument import resolve_model
    from ltdiff.evaluation.measure_mtf import measure_model_mtf
    from ltdiff.simulation.config import SimulationConfig
    from ltdiff.system.settings_tree import make_settings, read_configuration

    table = measure_model_mtf(
        resolve_model(model),
        simulation=make_settings(SimulationConfig, read_configuration(str(simulation))),
        out=out,
        inference=read_settings_of(config, settings, sections=["inference"]).inference,
        num_images=num_images,
    )
    print(f"{table}\nfigure: {out / 'mtf.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(run(measure_mtf, about=__doc__))
