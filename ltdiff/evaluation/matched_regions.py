"""Regions that are alike on images of different patients: random discs, as many of each content class on one side as on another.

Features of lung and of bone differ more than those of two kernels do: without the classes, whoever has more lung in the image
looks like another protocol. All discs lie within the body: couches differ from scanner to scanner.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltdiff.data.rois import Roi, random_rois
from ltdiff.evaluation.structures import SMOOTHING_PX, body_mask
from ltdiff.physics.window_power import CLASS_EDGES_HU

CONTENT_CLASSES_HU = tuple(pairwise(CLASS_EDGES_HU))
"""Ranges of the mean of a disc: lung; lung with vessels and walls; borders of the lung, and fat with skin; soft tissue; bone."""
OUTSIDE_HU = -1e7
"""Instead of what lies outside the body: a disc with a single such pixel belongs to no class."""


def matched_regions(stacks: Sequence[NDArray[np.float32]], *, num_rois: int, seed: int) -> list[list[Roi]]:
    """For each of several stacks (N, Y, X) in HU `num_rois` discs of each content class, or as many as all stacks have.

    Raises:
        ValueError: slices are too small for a disc.
    """
    bodies = [np.stack([_within_body(plane) for plane in hu]) for hu in stacks]
    regions: list[list[Roi]] = [[] for _ in bodies]
    for hu_range in CONTENT_CLASSES_HU:
        drawn = [random_rois(hu, num_rois=num_rois, seed=seed + i, hu_range=hu_range) for i, hu in enumerate(bodies)]
        num_matched = min(map(len, drawn))
        for of_stack, rois in zip(regions, drawn, strict=True):
            of_stack += rois[:num_matched]
    return regions


def _within_body(plane_hu: NDArray[np.float32]) -> NDArray[np.float32]:
    body = body_mask(ndimage.gaussian_filter(plane_hu, SMOOTHING_PX))
    return np.where(body, plane_hu, np.float32(OUTSIDE_HU))
