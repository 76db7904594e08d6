"""Places of pixels, in mm from the middle of the slice."""

import numpy as np
import pytest

from ltdiff.data.position import position_mm


def test_the_middle_is_at_zero_and_rows_go_down():
    y_mm, x_mm = position_mm((3, 4), (2.0, 0.5))
    np.testing.assert_array_equal(y_mm, np.repeat([[-2.0], [0.0], [2.0]], 4, axis=1))
    np.testing.assert_array_equal(x_mm, [[-0.75, -0.25, 0.25, 0.75]] * 3)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (512, 512)])
def test_opposite_pixels_are_equally_far(shape):
    for mm in position_mm(shape, (np.float64(0.8), np.float64(0.7))):  # as tables give them
        assert (mm.shape, mm.dtype) == (shape, np.float32)
        np.testing.assert_allclose(mm, -mm[::-1, ::-1])
