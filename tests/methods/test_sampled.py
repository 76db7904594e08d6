"""A sample of a method: its image, and noise as large as what it leaves over on pairs that validate."""

import numpy as np
import pytest
from tiny_run import SPACING_MM, make_volumes

from ltdiff.data.slice_pairs import ValidationPair
from ltdiff.methods.sampled import fit_sampled

IN_PLANE_MM = SPACING_MM[1:]
RANGE_HU = (-1024.0, 3071.0)


class _Nothing:
    """The method that does nothing."""

    def standardize(self, hu, spacing_mm, *, first_slice=0):
        return hu.astype(np.float32)


@pytest.fixture(scope="module")
def volumes():
    """(source, target): the target blurred, and the target."""
    return tuple(volume.astype(np.float32) for volume in make_volumes(size=64))


def _pairs(source, target, columns=slice(None)):
    pairs = zip(source, target, strict=True)
    return [ValidationPair(s, t, IN_PLANE_MM, columns, ("series", z)) for z, (s, t) in enumerate(pairs)]


def test_it_scatters_as_much_as_is_left_over(volumes):
    source, target = volumes
    sample = fit_sampled(_Nothing(), _pairs(source[:4], target[:4]), range_hu=RANGE_HU).standardize(source, IN_PLANE_MM)
    assert (sample - source).std() == pytest.approx((target - source).std(), rel=0.2)


def test_its_noise_is_a_function_of_the_slice_s_number(volumes):
    source, target = volumes
    sampled = fit_sampled(_Nothing(), _pairs(source, target), range_hu=RANGE_HU)
    whole = sampled.standardize(source, IN_PLANE_MM, first_slice=3)
    parts = [sampled.standardize(source[i : i + 1], IN_PLANE_MM, first_slice=3 + i) for i in range(len(source))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    noise = sampled.standardize(source[[0, 0]], IN_PLANE_MM) - source[0]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_only_the_validating_columns_are_looked_at(volumes):
    source, target = volumes
    spoiled = target.copy()
    spoiled[:, :, :32] += 1000
    columns = slice(32, 64)
    one, other = (
        fit_sampled(_Nothing(), _pairs(source, of, columns), range_hu=RANGE_HU).residual_noise
        for of in (target, spoiled)
    )
    assert one == other


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        fit_sampled(_Nothing(), [], range_hu=RANGE_HU)
