"""Settings of a search; read from YAML and the command line like those of a training."""

from dataclasses import dataclass
from typing import Literal

REMAINING_ERROR, SECONDS = "remaining_error", "seconds_per_slice"
"""1 − CCC, over all classes, on the validation regions; and the time of a validation slice."""


@dataclass(frozen=True)
class SearchConfig:
    """Extent and method of a search.

    Args:
        num_trials: trials in all, with those of earlier calls; a larger number adds to a finished search.
        num_concurrent: trials at a time.
        share: length of a trial's phases, as a share of the settings' own steps.
        num_scores: how often a trial is scored during its last phase.
        num_pairs: validation slice pairs that are scored, at most.
        num_rois: random regions on them.
        objectives: what is made small: the remaining error 1 − CCC; or it and the time of a slice, which gives a front of best
            trials instead of one, and stops none early.
        sampler: how values are chosen: by what earlier trials showed (tree-structured Parzen estimator), or at random.
        early_stopping: end a trial that is not among the best of its rung (ASHA).
        reduction_factor: one in so many of a rung goes on; the rungs are scores 1, 3, 9 with a factor of 3.
        num_final: so many of the best trials, and the settings that the search began with, are trained at full length before one
            is called the best.
        num_final_seeds: how often each of them is, with another seed each time. With the defaults that is up to six trainings.
        seed: seed of the choices.
    """

    num_trials: int = 32
    num_concurrent: int = 1
    share: float = 0.1
    num_scores: int = 9
    num_pairs: int = 8
    num_rois: int = 100
    objectives: Literal["error", "error_and_seconds"] = "error"
    sampler: Literal["tpe", "random"] = "tpe"
    early_stopping: bool = True
    reduction_factor: int = 3
    num_final: int = 2
    num_final_seeds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_trials", "num_concurrent", "num_scores", "num_pairs", "num_rois", "num_final", "num_final_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in 0…1, 0 excluded, got {self.share}")
        if self.reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2, got {self.reduction_factor}")

    @property
    def objective_names(self) -> list[str]:
        """Names of the figures that are minimized."""
        return [REMAINING_ERROR] if self.objectives == "error" else [REMAINING_ERROR, SECONDS]
