import numpy as np
import pytest

from ltdiff.simulation.kernels import BL64_LIKE, KERNELS, LUNG, Kernel, NoiseReduction

NYQUIST = 0.9


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
def test_window_passes_through_its_control_points(kernel):
    fraction = np.array([0, 0.25, 0.5, 0.75, 1.0])
    response = kernel.response(fraction * NYQUIST, nyquist_per_mm=NYQUIST)
    np.testing.assert_allclose(response, np.array(kernel.window) * np.sinc(fraction / 2) ** 2, atol=1e-12)


def test_response_is_even_flat_at_zero_and_ends_at_nyquist():
    frequency = np.array([1e-3, 0.3, 0.91])
    response = LUNG.response(frequency, nyquist_per_mm=NYQUIST)
    np.testing.assert_array_equal(response, LUNG.response(-frequency, nyquist_per_mm=NYQUIST))
    assert response[0] == pytest.approx(1, abs=1e-4)
    assert response[2] == 0


def test_sharp_kernel_enhances():
    assert BL64_LIKE.response(np.array([0.3]), nyquist_per_mm=NYQUIST) > 0.9
    assert LUNG.response(np.array([0.4]), nyquist_per_mm=NYQUIST) > 1.5


@pytest.mark.parametrize("window", [(0.9, 1, 1, 1, 1), (1, 1, -0.1, 0, 0), (1, 1, 1)])
def test_bad_windows_are_refused(window):
    with pytest.raises(ValueError, match="'odd'"):
        Kernel("odd", window)


@pytest.mark.parametrize("change", [{"num_iterations": 0}, {"edge_hu": 0.0}])
def test_a_noise_reduction_that_does_nothing_is_refused(change):
    with pytest.raises(ValueError, match="noise reduction"):
        NoiseReduction(**change)
