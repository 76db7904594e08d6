"""The ratio of two protocols' edge responses is that of their kernels, though other patients were scanned."""

import numpy as np
import pytest

from ltdiff.physics.edge_response import EdgeMeter
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.reconstruction import scan_patient

CONFIG = SimulationConfig(num_slices=4, source_kernel="Br40-like", target_kernel="standard", doses=(0.08, 0.08, 0.02, 0.02))


@pytest.mark.slow
def test_the_ratio_of_other_patients_at_another_dose_is_that_of_the_kernels():
    meters = {"source": EdgeMeter(), "target": EdgeMeter()}
    for patient in range(4):
        scan = scan_patient(CONFIG, patient)
        role, slices_hu = ("source", scan.source_hu) if patient < 2 else ("target", scan.target_hu)
        for hu in slices_hu:
            meters[role].add(hu, scan.spacing_mm[1:])
    source, target = (meters[role].response("lung") for role in ("source", "target"))
    frequencies = source.frequencies_per_mm[source.frequencies_per_mm <= 0.5]
    kernels = [kernel.response(frequencies, nyquist_per_mm=CONFIG.scanner.nyquist_per_mm) for kernel in CONFIG.kernels()]
    num = len(frequencies)
    np.testing.assert_allclose(target.mtf[:num] / source.mtf[:num], kernels[1] / kernels[0], atol=0.12)
