"""Radiomic features of the regions of one protocol, to be compared with those of another without pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_DEFINED = 0.9
"""A feature with a value in fewer of the regions of either sample is left out of both."""


class FeatureSample(NamedTuple):
    """Features (regions, features), and for each region the number of the group (regions,) that it belongs to.

    Regions of one group (a patient, or a block of one patient's slices) are alike; groups are independent.
    """

    values: NDArray[np.float64]
    groups: NDArray[np.int64]

    def select(self, chosen: NDArray[np.bool_]) -> "FeatureSample":
        """Some of its regions."""
        return FeatureSample(self.values[chosen], self.groups[chosen])


def comparable(*samples: FeatureSample) -> list[FeatureSample]:
    """The samples with the features that all of them define and that vary, without regions that lack one of these."""
    defined = [np.isfinite(sample.values) for sample in samples]
    shared = np.all([one.mean(axis=0) >= LEAST_DEFINED for one in defined], axis=0)
    complete = [
        FeatureSample(sample.values[:, shared], sample.groups).select(one[:, shared].all(axis=1))
        for sample, one in zip(samples, defined, strict=True)
    ]
    varying = np.ptp(np.concatenate([sample.values for sample in complete]), axis=0) > 0
    return [FeatureSample(sample.values[:, varying], sample.groups) for sample in complete]
