"""The command of the job that measures how a model passes on edges: its MTF beside the target kernel's.

On scans of a phantom by the scanner that simulated the model's pairs.

out/mtf.csv    one row per edge, method and frequency
out/mtf.md     the largest difference of each
out/mtf.png    the curves
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ltdiff.commands.command_line import Config, Set, resolve_model
from ltdiff.commands.configuration import read_settings_of
from ltdiff.evaluation.figures import draw_mtf
from ltdiff.evaluation.mtf import FRACTIONS, Disc, largest_mtf_differences, mtf_table
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import LinearMatch, Method, Slices
from ltdiff.inference.models import read_training_domain
from ltdiff.inference.standardizer import Standardizer
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.edges import INSERT_RADIUS_MM, place_inserts, project_inserts
from ltdiff.simulation.reconstruction import reconstruct_pair
from ltdiff.system.atomic_files import replace_file, write_text
from ltdiff.system.settings_tree import make_settings, read_configuration


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
    inference = read_settings_of(config, settings, sections=["inference"]).inference
    scanned = make_settings(SimulationConfig, read_configuration(str(simulation)))
    folder = resolve_model(model)
    summary = measure_model_mtf(folder, simulation=scanned, out=out, inference=inference, num_images=num_images)
    print(f"{summary}\nfigure: {out / 'mtf.png'}")
    return 0


def measure_model_mtf(
    model: Path, *, simulation: SimulationConfig, out: Path, inference: InferenceConfig, num_images: int
) -> str:
    """Measure source, linear match and model; write table and figure to `out`; return the summary as Markdown.

    Raises:
        ValueError: no model there, one of other kernels, or no image.
    """
    _check_kernels(model, simulation)
    torch.set_num_threads(1)  # as archives are standardized: the same values
    inference = replace(inference, output=inference.output or "mean")  # a sample's noise says nothing of edges
    standardizer = Standardizer.load(model, inference)
    linear = LinearMatch(standardizer.model.kernel_match)
    table = measure_methods({"linear": linear, "ltdiff": standardizer}, simulation=simulation, num_images=num_images)
    summary = _to_markdown(table, num_images=num_images)
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "mtf.csv", partial(table.to_csv, index=False))
    replace_file(out / "mtf.png", partial(draw_mtf(table).savefig, format="png", dpi=100))
    write_text(out / "mtf.md", f"# Resolution\n\nNot for diagnostic use.\n\n{summary}\n")
    return summary


def measure_methods(methods: Mapping[str, Method], *, simulation: SimulationConfig, num_images: int) -> pd.DataFrame:
    """The `mtf_table` of methods, and of the source, over `num_images` scans of the same edges.

    Each scan has its own noise, at the thickness and dose of a patient of that number: a method that is not linear is measured
    where it works. What it shares with the target's noise is then taken away, A' − (B − noise-free B), which changes no mean
    and leaves little to average out. Source and target are measured without noise.

    Raises:
        ValueError: no image, or a field of view that does not show the edges.
    """
    if num_images < 1:
        raise ValueError(f"the MTF needs at least one image, not {num_images}")
    pixel_mm = simulation.fov_mm / simulation.matrix
    line_integrals = project_inserts(simulation)
    source, target = reconstruct_pair(line_integrals, simulation)
    rng = np.random.default_rng(0)
    measured: dict[str, list[Slices]] = {name: [] for name in methods}
    for number in range(num_images):
        sinogram = simulation.scanner.expose(
            line_integrals, thickness_mm=simulation.thickness_mm(number), dose=simulation.dose(number), rng=rng
        )
        noisy_source, noisy_target = reconstruct_pair(sinogram, simulation)
        for name, method in methods.items():
            image = method.standardize(noisy_source[None], (pixel_mm, pixel_mm), first_slice=number)[0]
            measured[name].append(image - (noisy_target - target))
    images = {"source": source[None], **{name: np.stack(planes) for name, planes in measured.items()}}
    return mtf_table(images, target_hu=target, discs=_discs(simulation), pixel_mm=pixel_mm)


def _discs(simulation: SimulationConfig) -> list[Disc]:
    """The inserts as discs in the image, whose isocentre is the centre of pixel matrix // 2."""
    pixel_mm, middle = simulation.fov_mm / simulation.matrix, simulation.matrix // 2
    return [
        Disc(
            kind=f"{insert.hu:g} in {insert.background_hu:g} HU",
            centre_px=(insert.centre_mm[1] / pixel_mm + middle, insert.centre_mm[0] / pixel_mm + middle),
            radius_px=INSERT_RADIUS_MM / pixel_mm,
        )
        for insert in place_inserts()
    ]


def _check_kernels(model: Path, simulation: SimulationConfig) -> None:
    domain = read_training_domain(model)
    known = {"source": domain.source_kernels, "target": domain.target_kernels}
    for (role, trained), kernel in zip(known.items(), simulation.kernels(), strict=True):
        if kernel.name not in trained:
            raise ValueError(
                f"{model} was trained with the {role} kernel {', '.join(trained)}, and the simulation has {kernel.name}"
            )


def _to_markdown(table: pd.DataFrame, *, num_images: int) -> str:
    largest = largest_mtf_differences(table)
    shown = largest[["kind", "method", "difference", "standard_error", "fraction_of_nyquist"]]
    return (
        f"Largest difference of the MTF to the target's at 0 to {FRACTIONS[-1]:g} of the pixel grid's Nyquist frequency, its "
        f"standard error over {num_images} noisy images, and where it is; cylinders of {2 * INSERT_RADIUS_MM:g} mm. The "
        "largest of several values that are not exact is too large by about their standard error.\n\n"
        f"{shown.to_markdown(index=False, floatfmt=('', '', '.3f', '.3f', '.2f'))}"
    )
