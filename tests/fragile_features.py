"""Regions, and a set of features that crashes its process as compiled code can."""

import os
import signal
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_info

from ltdiff.radiomics.feature_sets import PYRADIOMICS
from ltdiff.radiomics.parallel import RegionCut

DEADLY_HU = 666.0


def crash_on_deadly_values(hu, mask, spacing_mm):
    """As compiled code that runs into memory which is not its own."""
    if (hu == DEADLY_HU).any():
        os.kill(os.getpid(), signal.SIGSEGV)
    return {"class_mean": float(hu[mask].mean()), "class_pixels": float(mask.sum())}


def count_threads(hu, mask, spacing_mm):
    """The most that a numerical library of this process would start."""
    return {"class_threads": float(max(library["num_threads"] for library in threadpool_info()))}


FRAGILE = replace(PYRADIOMICS, features=("class_mean", "class_pixels"), extract=crash_on_deadly_values)
THREADS = replace(PYRADIOMICS, features=("class_threads",), extract=count_threads)


def make_regions(count: int, *, shape: tuple[int, int, int] = (1, 9, 9)) -> list[RegionCut]:
    rng = np.random.default_rng(0)
    return [RegionCut(rng.normal(0, 100, shape).round(), np.ones(shape, bool), (0.7, 0.7)) for _ in range(count)]
