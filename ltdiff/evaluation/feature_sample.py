"""Radiomic features of the regions of one protocol, to be compared with those of another without pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_DEFINED = 0.9
"""A feature with a value in fewer of the regions of one sample is left out of all."""


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
    """The samples with the features that all of them define and that vary; the median of all stands in for a missing value."""
    defined = [np.isfinite(sample.values) for sample in samples]
    shared = np.all([one.mean(axis=0) >= LEAST_DEFINED for one in defined], axis=0)
    values = np.concatenate(
        [np.where(one, sample.values, np.nan)[:, shared] for one, sample in zip(defined, samples, strict=True)]
    )
    values = np.where(np.isnan(values), np.nanmedian(values, axis=0), values)
    values = values[:, np.ptp(values, axis=0) > 0]
    parts = np.split(values, np.cumsum([len(sample.values) for sample in samples])[:-1])
    return [FeatureSample(part, sample.groups) for part, sample in zip(parts, samples, strict=True)]
