"""Settings of an evaluation."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EvaluationConfig:
    """What is scored.

    Args:
        split: which rows of the manifest.
        num_rois: number of random regions, in all, of each set (random, and one per HU range).
        num_slices: of source and of target, at most, where there are no pairs; pairs are all looked at.
        seed: seed of the regions and of the bootstrap.
        num_workers: slices standardized at a time, and processes for the feature extraction.
        features: `pyradiomics`: four classes, of regions of one slice; `catalogue`: all 1,450 features, of the same regions
            through five slices, of whole lesions and of whole slices; `ibsi`: IBSI's 455 of voxel values, of these regions too;
            `wavelet`: 702 of intensity, texture and wavelets, of discs through five slices and of whole lesions.
    """

    split: Literal["train", "val", "test"] = "test"
    num_rois: int = 100
    num_slices: int = 128
    seed: int = 0
    num_workers: int = 2
    features: Literal["pyradiomics", "catalogue", "ibsi", "wavelet"] = "pyradiomics"

    def __post_init__(self) -> None:
        for name, least in (("num_rois", 1), ("num_slices", 1), ("num_workers", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
