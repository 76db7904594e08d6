"""MTF of a trained model beside the target kernel's, at the edges of simulated cylinders. Not for diagnostic use.

    python jobs/measure_mtf.py MODEL --simulation ARCHIVE/simulation.json --out OUT
    ray job submit --working-dir . -- python jobs/measure_mtf.py MODEL --simulation ARCHIVE/simulation.json --out OUT

For a model that was trained on pairs of `ltdiff simulate`, which left simulation.json beside them. MODEL, ARCHIVE and OUT must be
absolute paths on storage that the node can reach. It runs in its own process, on one node, in a minute or two.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ltdiff.cli import resolve_model
from ltdiff.command_line import run
from ltdiff.evaluation.edge_phantom import measure_model_mtf
from ltdiff.inference.standardizer import InferenceConfig
from ltdiff.simulation.config import SimulationConfig


def measure_mtf(
    model: str,
    *,
    out: Path,
    simulation: SimulationConfig = SimulationConfig(),
    inference: InferenceConfig = InferenceConfig(),
    num_images: int = 20,
) -> int:
    """Measure how source, linear match and LTDiff++ pass on edges, beside the target kernel.

    Args:
        model: Folder of a trained model, or models:/ltdiff@champion.
        out: Folder for table (CSV, Markdown) and figure (PNG).
        simulation: The scanner, its kernels, dose and thickness: the simulation.json of the archive that trained the model.
        inference: Decoding, steps, precision, seed.
        num_images: Noisy images that are averaged.
    """
    print(
        measure_model_mtf(
            resolve_model(model), simulation=simulation, out=out, inference=inference, num_images=num_images
        )
    )
    print(f"figure: {out / 'mtf.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(run(measure_mtf))
