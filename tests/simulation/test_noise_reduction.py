import numpy as np
import pytest

from ltdiff.simulation.kernels import NoiseReduction, reduce_noise


def test_noise_falls_edges_stay_and_the_mean_is_kept():
    rng = np.random.default_rng(0)
    step = np.where(np.arange(64) < 32, -800.0, 40.0) * np.ones((64, 1))
    noisy = step + 10 * rng.standard_normal(step.shape)
    smooth = reduce_noise(noisy, setting=NoiseReduction(num_iterations=5, edge_hu=40))
    assert smooth[:, :30].std() < 0.6 * noisy[:, :30].std()
    assert smooth[:, 32].mean() - smooth[:, 31].mean() == pytest.approx(840, abs=10)
    assert smooth.mean() == pytest.approx(noisy.mean(), abs=1e-2)


def test_it_is_not_linear():
    rng = np.random.default_rng(0)
    noise = 10 * rng.standard_normal((32, 32))
    setting = NoiseReduction()
    weak, strong = (reduce_noise(factor * noise, setting=setting).std() / factor for factor in (1, 20))
    assert strong > 1.5 * weak


@pytest.mark.parametrize("change", [{"num_iterations": 0}, {"edge_hu": 0.0}])
def test_bad_settings_are_refused(change):
    with pytest.raises(ValueError, match="noise reduction"):
        NoiseReduction(**change)
