"""Nested ComBat: several batch columns (scanner, kernel, …), harmonized one after the other, in the order that leaves least.

Source: H. Horng et al., Sci. Rep. 12 (2022) 4493, and 12 (2022) 19009 (the order by the Anderson–Darling test).
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from scipy.stats import anderson_ksamp

from ltdiff.radiomics.combat_model import Codes, ComBatModel, Rows, Values, fit_combat

MAX_COLUMNS = 4
"""All orders are tried, and four columns have 24."""
SIGNIFICANT = 0.05


def fit_in_order(values: Values, rows: Mapping[str, Rows], order: Sequence[str]) -> tuple[dict[str, ComBatModel], Values]:
    """Fit ComBat to one batch column after the other; the models in this order, and the features (N, F) after the last.

    `rows` has the rows of every column, whose batches are that column's.
    """
    models = {}
    for name in order:
        models[name] = fit_combat(values, rows[name])
        values = models[name].adjust(values, rows[name])
    return models, values


def best_order(values: Values, rows: Mapping[str, Rows]) -> tuple[str, ...]:
    """Order of the batch columns after which the fewest features differ between batches; the given one of equals."""

    def num_left(order: tuple[str, ...]) -> int:
        _, harmonized = fit_in_order(values, rows, order)
        return sum(num_different(harmonized, of_column.batches) for of_column in rows.values())

    return min(permutations(rows), key=num_left)


def num_different(values: Values, batches: Codes) -> int:
    """Number of features (N, F) whose distributions in the batches differ by the Anderson–Darling test of k samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # p-values end at .001 and .25
        tests = [anderson_ksamp([one[batches == batch] for batch in np.unique(batches)]) for one in values.T]
    return sum(test.pvalue < SIGNIFICANT for test in tests)
