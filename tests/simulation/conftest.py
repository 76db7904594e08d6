"""A scanner and a configuration small enough for tests."""

import pytest

from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.kernels import Kernel
from ltdiff.simulation.phantom import LungStructure
from ltdiff.simulation.scanner import Scanner


@pytest.fixture(scope="session")
def small_scanner() -> Scanner:
    """Wide detectors and few views: enough for pixels of 3 mm and more."""
    return Scanner(num_views=240, num_detectors=256, detector_pitch_mm=2.0)


@pytest.fixture(scope="session")
def small_config(small_scanner) -> SimulationConfig:
    """Two patients of four slices of 64 × 64."""
    return SimulationConfig(
        num_patients=2,
        num_slices=4,
        matrix=64,
        num_lesions=3,
        scanner=small_scanner,
        custom_kernels=(Kernel("softer", (1.0, 0.7, 0.4, 0.2, 0.0)), Kernel("sharper", (1.0, 1.2, 1.4, 1.2, 0.5))),
        source_kernel="softer",
        target_kernel="sharper",
        lung=LungStructure(leaves_per_tree=64, leaf_radius_mm=1.0),
    )
