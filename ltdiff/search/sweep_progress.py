"""What a search says while it runs, and when it gives up."""

import logging
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

from ray import tune

from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.trial import NUMBER, SearchContext
from ltdiff.system.progress import duration
from ltdiff.training.checkpoint import CHECKPOINTS_FOLDER
from ltdiff.training.ray_driver import RAY_FOLDER

logger = logging.getLogger(__name__)

MAX_FAILED_ALIKE = 5
"""Number of trials in a row with the same failure that ends the search: the cause is not in their values."""
NOT_FINITE = "not finite"
"""Part of the error of a trial that fails because of its own values, for example a learning rate."""
PROGRESS_S = 20.0


class SweepProgress(tune.Callback, tune.Stopper):
    """A line for every trial that ends, and now and then one of where a trial is; an ended one's checkpoints are removed.

    Ends the search when trials fail for a reason that is not theirs.
    """

    def __init__(self, context: SearchContext, num_missing: int, on_change: Callable[[], None]) -> None:
        self.context, self.num_missing, self.on_change = context, num_missing, on_change
        self.num_ended = self.num_failed_alike = 0
        self.failure = ""
        self.has_failed = False  # and stays so, whatever a trial that ran beside still does
        self.running: dict[int, float] = {}  # number → share that is done
        self.started_s = self.logged_s = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it for a restart of its own, and what `on_change` holds (threads, connections) cannot be."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say so: it is a while until the first score."""
        self.running.setdefault(trial.config[NUMBER], 0.0)
        logger.info("trial %d begins", trial.config[NUMBER])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Say now and then that it goes on."""
        self.running[trial.config[NUMBER]] = result["training_iteration"] / self.context.config.num_scores
        self.on_change()
        if time.monotonic() - self.logged_s > PROGRESS_S:
            self.logged_s = time.monotonic()
            place = f"score {result['training_iteration']} of {self.context.config.num_scores}"
            logger.info("trial %d: %s, remaining error %.4f", trial.config[NUMBER], place, result[REMAINING_ERROR])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report a trial that has ended or was stopped by ASHA."""
        self.num_failed_alike = 0
        result = trial.last_result
        num_scores = result["training_iteration"]
        text = "to its end" if num_scores == self.context.config.num_scores else f"stopped after score {num_scores}"
        self._end(trial, f"{text}, remaining error {result[REMAINING_ERROR]:.4f}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The others go on, unless several fail alike: but for paths and numbers, and not of their own values."""
        failure = str(trial.get_error() or "unknown reason").strip().splitlines()[-1][:300]
        if NOT_FINITE in failure:
            self.num_failed_alike = 0
        elif _without_numbers(failure) == _without_numbers(self.failure):
            self.num_failed_alike += 1
        else:
            self.num_failed_alike = 1
        self.has_failed |= self.num_failed_alike >= MAX_FAILED_ALIKE
        self.failure = failure
        self._end(trial, f"failed: {failure}")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is ended."""
        return False

    def stop_all(self) -> bool:
        """Asked after every event."""
        return self.has_failed

    def _end(self, trial: Any, outcome: str) -> None:
        self.num_ended += 1
        self.logged_s = time.monotonic()
        self.running.pop(trial.config[NUMBER], None)
        num_done = self.num_ended + sum(self.running.values())  # with parts of those that run beside
        left = duration((time.monotonic() - self.started_s) / num_done * max(0.0, self.num_missing - num_done))
        config = self.context.config
        place = config.num_trials - self.num_missing + self.num_ended
        logger.info("trial %d, %d of %d: %s; %s left", trial.config[NUMBER], place, config.num_trials, outcome, left)
        folder = self.context.folder(self.context.space.decode(trial.config))
        for leftover in (*folder.glob(f"*/{CHECKPOINTS_FOLDER}"), folder / RAY_FOLDER):  # its models and scores stay
            shutil.rmtree(leftover, ignore_errors=True)
        self.on_change()


def _without_numbers(failure: str) -> str:
    """Remove paths and numbers, in which failures of one cause differ."""
    return re.sub(r"\S*/\S*|\d+", "", failure)
