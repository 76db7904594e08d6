"""A mask comes back as it was, and is small meanwhile."""

import numpy as np
import pytest

from ltdiff.data.compressed_array import CompressedArray
from ltdiff.data.rois import disc_mask


@pytest.mark.parametrize("dtype", [bool, np.uint16])
def test_it_comes_back_as_it_was(dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 20, 24)).astype(dtype)
    for given in (array, array[:, ::2, 1:], array.transpose(2, 0, 1)):  # of which two do not lie in one piece
        found = CompressedArray.of(given).read()
        np.testing.assert_array_equal(found, given)
        assert found.dtype == dtype


def test_a_lung_takes_less_than_a_hundredth_of_its_image():
    lung = np.repeat(disc_mask((512, 512), centre_yx=(250, 200), radius_px=120)[None], 4, axis=0)
    assert len(CompressedArray.of(lung).compressed) < lung.size * 4 / 100
