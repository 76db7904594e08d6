"""Nested ComBat: the effects of several columns go, in the better order."""

import numpy as np

from ltdiff.radiomics.combat_model import Rows
from ltdiff.radiomics.nested_combat import best_order, fit_in_order, num_different

NUM, NUM_FEATURES = 160, 10


def _cohort(seed=0):
    rng = np.random.default_rng(seed)
    scanner, kernel = rng.integers(0, 2, NUM), rng.integers(0, 3, NUM)
    values = rng.normal(size=(NUM, NUM_FEATURES))
    shifts = rng.normal(0, 1.5, size=(2, NUM_FEATURES)), rng.normal(0, 1.5, size=(3, NUM_FEATURES))
    given = (values + shifts[0][scanner]) * np.array([1, 1.6])[scanner][:, None] + shifts[1][kernel]
    none = np.empty((NUM, 0))
    return given, {name: Rows(of, none, np.arange(NUM)) for name, of in (("scanner", scanner), ("kernel", kernel))}


def test_the_effects_of_both_columns_go():
    values, rows = _cohort()
    assert all(num_different(values, of.batches) > 5 for of in rows.values())
    models, adjusted = fit_in_order(values, rows, best_order(values, rows))
    assert all(num_different(adjusted, of.batches) == 0 for of in rows.values())
    for name, model in models.items():
        values = model.adjust(values, rows[name])
    np.testing.assert_array_equal(values, adjusted)


def test_the_order_is_the_one_that_leaves_least():
    values, rows = _cohort()

    def num_left(order):
        adjusted = fit_in_order(values, rows, order)[1]
        return sum(num_different(adjusted, of.batches) for of in rows.values())

    best = best_order(values, rows)
    assert num_left(best) == min(num_left(order) for order in (("scanner", "kernel"), ("kernel", "scanner")))
    assert best_order(values[:, :1] * 0 + np.arange(NUM)[:, None], rows) == ("scanner", "kernel")  # of equals the given one


def test_one_distribution_seldom_differs():
    rng = np.random.default_rng(0)
    share = num_different(rng.normal(size=(90, 400)), np.arange(90) % 3) / 400
    assert 0.01 < share < 0.1
