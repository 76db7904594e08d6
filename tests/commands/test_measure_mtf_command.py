"""The MTF of methods at simulated edges, against the kernels' own response and methods whose MTF is known."""

from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from tiny_run import one_thread, save_tiny_model  # noqa: F401

from ltdiff.commands.measure_mtf_command import measure_methods, measure_model_mtf
from ltdiff.evaluation.mtf import FRACTIONS
from ltdiff.inference.config import InferenceConfig
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.edges import project_inserts
from ltdiff.simulation.reconstruction import reconstruct_pair
from ltdiff.simulation.scanner import Scanner

CONFIG = SimulationConfig(matrix=256, doses=(0.5, 0.1), scanner=Scanner(num_views=600))
PIXEL_MM = CONFIG.fov_mm / CONFIG.matrix
STRONG = "-800 in 0 HU"


class Oracle:
    """A method that knows each scan's target, and returns it blurred by a Gaussian."""

    def __init__(self, *, sigma_px):
        self.sigma_px = sigma_px
        self.line_integrals = project_inserts(CONFIG)
        self.rng = np.random.default_rng(0)

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        assert spacing_mm == (PIXEL_MM, PIXEL_MM)
        dose = CONFIG.doses[first_slice % 2]
        sinogram = CONFIG.scanner.expose(self.line_integrals, thickness_mm=5.0, dose=dose, rng=self.rng)
        source, target = reconstruct_pair(sinogram, CONFIG)
        np.testing.assert_array_equal(hu[0], source)  # noise and dose are those of the patient of this number
        return (ndimage.gaussian_filter(target, self.sigma_px) if self.sigma_px else target)[None]


@pytest.fixture(scope="module")
def table():
    methods = {"perfect": Oracle(sigma_px=0), "blurred": Oracle(sigma_px=1.0)}
    return measure_methods(methods, simulation=CONFIG, num_images=4).set_index(["kind", "method"])


def test_source_and_target_have_the_response_of_their_kernels(table):
    rows = table.loc[(STRONG, "source")]
    frequency = rows["frequency_per_mm"].to_numpy()
    aperture = np.sinc(frequency * CONFIG.scanner.detector_pitch_mm)
    for kernel, column in zip(CONFIG.kernels(), ("mtf", "target_mtf"), strict=True):
        expected = kernel.response(frequency, nyquist_per_mm=CONFIG.scanner.nyquist_per_mm) * aperture
        np.testing.assert_allclose(rows[column], expected, atol=0.05)


def test_a_perfect_method_differs_nowhere_in_spite_of_the_noise(table):
    for kind in table.index.unique("kind"):
        np.testing.assert_allclose(table.loc[(kind, "perfect"), "difference"], 0, atol=1e-6)
        np.testing.assert_allclose(table.loc[(kind, "perfect"), "standard_error"], 0, atol=1e-6)


def test_a_blurred_target_is_as_much_lower(table):
    rows = table.loc[(STRONG, "blurred")]
    gaussian = np.exp(-2 * (np.pi * 1.0 * np.array(FRACTIONS) / 2) ** 2)
    error = rows["mtf"] - gaussian * rows["target_mtf"]
    assert (error.abs() < 0.02 + 4 * rows["standard_error"]).all()
    assert (rows["standard_error"][1:] > 0).all()
    assert rows["difference"].min() < -0.3


def test_a_model_is_measured_beside_source_and_linear_match(tmp_path):
    config = replace(CONFIG, matrix=96)
    model = save_tiny_model(tmp_path / "model", source_kernel="smooth", target_kernel="lung")
    options = {"out": tmp_path / "out", "inference": InferenceConfig(precision="fp32"), "num_images": 2}
    printed = measure_model_mtf(model, simulation=config, **options)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mtf.csv", "mtf.md", "mtf.png"}
    assert pd.read_csv(tmp_path / "out" / "mtf.csv")["method"].unique().tolist() == ["source", "linear", "ltdiff"]
    assert printed in (tmp_path / "out" / "mtf.md").read_text()
    assert printed.count("| ltdiff ") == 4
    assert matplotlib.image.imread(tmp_path / "out" / "mtf.png")[..., :3].std() > 0.05


def test_a_model_of_other_kernels_is_refused(tmp_path):
    model = save_tiny_model(tmp_path / "model", source_kernel="B", target_kernel="lung")
    with pytest.raises(ValueError, match="trained with the source kernel B, and the simulation has smooth"):
        measure_model_mtf(model, simulation=CONFIG, out=tmp_path / "out", inference=InferenceConfig(), num_images=1)
    assert not (tmp_path / "out").exists()


def test_at_least_one_image_is_needed():
    with pytest.raises(ValueError, match="at least one image, not 0"):
        measure_methods({}, simulation=CONFIG, num_images=0)
