"""What the study is told of trials, without Ray."""

import pytest
from optuna.trial import TrialState
from stub_search import make_plan, make_study

from ltdiff.search.config import REMAINING_ERROR, SECONDS
from ltdiff.search.study import StudySearcher, ended_trials


def report(searcher, trial_id: str, scores: list[float], *, is_last: bool) -> None:
    """As Ray Tune does: the score at which a trial ends comes with the end alone."""
    searcher.suggest(trial_id)
    results = [{"training_iteration": step, REMAINING_ERROR: value, SECONDS: 2.0} for step, value in enumerate(scores, start=1)]
    for result in results[:-1] if is_last else results:
        searcher.on_trial_result(trial_id, result)
    if is_last:
        searcher.on_trial_complete(trial_id, results[-1])


@pytest.fixture
def searcher(tmp_path):
    context = make_plan(tmp_path / "search")  # of 4 scores
    return StudySearcher(make_study(context), context)


@pytest.mark.parametrize(
    ("scores", "state"),
    [([0.9], TrialState.PRUNED), ([0.9, 0.8, 0.7], TrialState.PRUNED), ([0.9, 0.8, 0.7, 0.6], TrialState.COMPLETE)],
)
def test_a_trial_has_all_its_scores_and_the_state_of_its_end(searcher, scores, state):
    report(searcher, "a", scores, is_last=True)
    (trial,) = ended_trials(searcher.study)
    assert trial.state == state
    assert trial.intermediate_values == dict(enumerate(scores, start=1))
    assert trial.value == scores[-1]


def test_scores_that_are_reported_again_count_once(searcher):
    report(searcher, "a", [0.9, 0.8], is_last=False)
    for step, value in ((1, 0.5), (2, 0.5), (3, 0.7)):  # in another process, from the last checkpoint
        searcher.on_trial_result("a", {"training_iteration": step, REMAINING_ERROR: value})
    assert searcher.study.trials[0].intermediate_values == {1: 0.9, 2: 0.8, 3: 0.7}


@pytest.mark.parametrize("end", [{"error": True}, {"result": None}, {"result": {"done": True}}])
def test_a_trial_without_an_end_has_failed(searcher, end):
    report(searcher, "a", [0.9], is_last=False)
    searcher.on_trial_complete("a", **end)
    (trial,) = ended_trials(searcher.study)
    assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.FAIL, None, {1: 0.9})


def test_of_two_objectives_the_end_counts(tmp_path):
    context = make_plan(tmp_path / "search", objectives="error_and_seconds")
    searcher = StudySearcher(make_study(context), context)
    report(searcher, "a", [0.9, 0.8, 0.7, 0.6], is_last=True)
    (trial,) = ended_trials(searcher.study)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.6, 2.0])


def test_the_estimator_ranks_a_stopped_trial_behind_all_that_came_further(tmp_path):
    """A slow start that ends well is better for it than a quick one that was stopped, whatever the scores are."""
    context = make_plan(tmp_path / "search")
    searcher = StudySearcher(make_study(context), context)
    report(searcher, "whole", [0.9, 0.8, 0.7, 0.6], is_last=True)
    report(searcher, "stopped", [0.5], is_last=True)
    assert searcher.study.best_trial.number == 0
