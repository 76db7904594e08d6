"""The command of the job that measures the MTF of a model."""

from pathlib import Path

from ltdiff.commands.command_line import Config, Set


def measure_mtf(
    model: str, /, *, simulation: Path, out: Path, num_images: int = 20, config: Config = "default", settings: Set = ()
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
    from ltdiff.evaluation.edge_phantom import measure_model_mtf
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
