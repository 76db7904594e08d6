"""Identifiability: can the protocol still be told from radiomic features? .5 is standardized, 1 is told every time.

A classifier is trained on regions of some groups (patients; blocks of z of a single one) and has to tell regions of others. The
area under its ROC curve (AUC) is that of all couples of a source group and a target group that it was not trained on: every
fold leaves out some groups on either side. Two halves of the target's own patients show what is due to the patients.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer

from ltdiff.evaluation.concordance import NUM_RESAMPLES, percentile_interval, resample
from ltdiff.evaluation.feature_sample import FeatureSample, comparable

MAX_FOLDS = 5
"""On either side; a classifier for every couple of a fold of the one and a fold of the other."""
NUM_QUANTILES = 100
"""Features are mapped to a normal distribution: some have values of 10⁶ in a few regions, which would decide all."""
MAX_ITERATIONS = 1000
FARTHEST = 5.2
"""Value of what lies beyond all training regions, in standard deviations."""


class Identifiability(NamedTuple):
    """AUC with its interval, a bootstrap over the groups of both sides; NaN where a side has one group alone."""

    auc: float
    ci_low: float
    ci_high: float


UNKNOWN = Identifiability(float("nan"), float("nan"), float("nan"))


def identifiability(source: FeatureSample, target: FeatureSample, *, seed: int = 0) -> Identifiability:
    """How well source and target can be told apart by their features."""
    source, target = comparable(source, target)
    of_source, of_target = _numbered(source.groups), _numbered(target.groups)
    num_source, num_target = int(of_source.max(initial=-1)) + 1, int(of_target.max(initial=-1)) + 1
    if min(num_source, num_target) < 2 or not source.values.shape[1]:
        return UNKNOWN
    wins = np.zeros((num_source, num_target))
    for fold, other in product(range(min(MAX_FOLDS, num_source)), range(min(MAX_FOLDS, num_target))):
        held_source, held_target = of_source % MAX_FOLDS == fold, of_target % MAX_FOLDS == other
        classifier = _fit(source.values[~held_source], target.values[~held_target])
        a, b = (classifier.decision_function(values) for values in (source.values[held_source], target.values[held_target]))
        concordant = (a[:, None] < b[None, :]) + 0.5 * (a[:, None] == b[None, :])
        wins += _members(of_source[held_source], num_source) @ concordant @ _members(of_target[held_target], num_target).T
    couples = np.outer(np.bincount(of_source), np.bincount(of_target))
    drawn_source, drawn_target = resample(num_source, NUM_RESAMPLES, seed), resample(num_target, NUM_RESAMPLES, seed + 1)
    drawn = ((drawn_source @ wins) * drawn_target).sum(axis=1) / ((drawn_source @ couples) * drawn_target).sum(axis=1)
    return Identifiability(float(wins.sum() / couples.sum()), *percentile_interval(drawn))


def _fit(source: NDArray[np.float64], target: NDArray[np.float64]) -> Pipeline:
    """A logistic regression on features mapped to normal distributions; the target is the positive class."""
    values = np.concatenate([source, target])
    is_target = np.repeat([False, True], [len(source), len(target)])
    classifier = make_pipeline(
        QuantileTransformer(n_quantiles=min(NUM_QUANTILES, len(values))),
        FunctionTransformer(_to_normal),  # of all columns at once; the transformer's own goes column by column
        LogisticRegression(class_weight="balanced", max_iter=MAX_ITERATIONS),
    )
    return classifier.fit(values, is_target)


def _to_normal(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(ndtri(shares), -FARTHEST, FARTHEST))


def _numbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(groups, return_inverse=True)[1]


def _members(groups: NDArray[np.int64], num: int) -> NDArray[np.float64]:
    """(num, regions): 1 where the region is of the group."""
    return (np.arange(num)[:, None] == groups[None, :]).astype(float)
