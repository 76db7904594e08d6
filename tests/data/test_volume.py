"""A volume in memory."""

import numpy as np

from ltdiff.data.volume import Volume


def test_num_slices_counts_along_z():
    volume = Volume(np.zeros((3, 4, 5), np.float32), (5.0, 0.8, 0.8), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    assert volume.num_slices == 3
    assert volume.stored_orientation == "LPS"
