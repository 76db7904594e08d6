"""Which settings are best: mean and spread at full length, without Ray."""

import json

import pytest
from optuna.trial import TrialState
from stub_search import make_plan, make_study

from ltdiff.search.config import REMAINING_ERROR
from ltdiff.search.finals import FINALS_FOLDER, SCORE_FILE, final_settings, final_table, finalists
from ltdiff.search.first_trials import OWN_SETTINGS, add_first_trials
from ltdiff.search.search_report import write_report
from ltdiff.system.settings_tree import change_settings


def searched(folder, errors: list[float | None], **config):
    """(context, study) of trials with these remaining errors, the settings given first; None: it failed."""
    context = make_plan(folder / "search", **config)
    study = make_study(context)
    add_first_trials(study, context, [])
    for error in errors:
        trial = study.ask()
        context.space.suggest(trial)
        study.tell(trial, error, state=TrialState.FAIL if error is None else TrialState.COMPLETE)
    return context, study


def note(context, trial: int, errors: dict[int, float]) -> None:
    """What trainings at full length leave: remaining errors by their seeds."""
    for seed, error in errors.items():
        folder = context.out / FINALS_FOLDER / f"trial-{trial:04d}-seed-{seed}"
        folder.mkdir(parents=True)
        (folder / SCORE_FILE).write_text(json.dumps({REMAINING_ERROR: error}))


def test_the_best_and_the_settings_given_are_trained_again(tmp_path):
    context, study = searched(tmp_path, [0.5, 0.3, 0.1, 0.2, None], num_final=2)
    assert [trial.number for trial in finalists(study, context)] == [2, 3, 0]


def test_the_settings_given_are_there_once_and_even_if_they_failed(tmp_path):
    context, study = searched(tmp_path / "best", [0.1, 0.3], num_final=2)
    assert [trial.number for trial in finalists(study, context)] == [0, 1]
    context, study = searched(tmp_path / "failed", [None, 0.3], num_final=2)
    assert [trial.number for trial in finalists(study, context)] == [1, 0]


def test_a_final_is_at_full_length_with_another_seed(tmp_path):
    context, study = searched(tmp_path, [0.5], share=0.01)
    chosen = context.space.decode(finalists(study, context)[0].params)
    settings = final_settings(context, chosen, seed=3)
    assert settings == change_settings(context.base, {**chosen, "training.seed": 3})
    assert settings.training.joint.num_steps == context.base.training.joint.num_steps


def test_the_mean_decides_and_not_the_luckiest(tmp_path):
    context, study = searched(tmp_path, [0.5, 0.3, 0.1], num_final=2, num_final_seeds=2)
    note(context, 2, {1: 0.10, 2: 0.40})
    note(context, 1, {1: 0.20, 2: 0.22})
    note(context, 0, {1: 0.30})
    table = final_table(finalists(study, context), context)
    assert list(table["trial"]) == [1, 2, 0]
    assert list(table["mean"]) == pytest.approx([0.21, 0.25, 0.30])
    assert table["sd"][0] == pytest.approx(0.02 / 2**0.5)
    assert table["sd"].isna().tolist() == [False, False, True]
    assert list(table["trainings"]) == [2, 2, 1]
    assert table["origin"][2] == OWN_SETTINGS
    text = write_report(study, context, table)
    assert "Best: trial 1, remaining error 0.2100 ± 0.0141 on validation pairs (2 trainings at full length)." in text
    assert "The settings given: 0.3000." in text
    assert (context.out / "best.yaml").read_text().startswith("# Best of 3 trials.\n# Best: trial 1, remaining error 0.2100")


def test_where_nothing_is_better_than_the_settings_given_the_report_says_so(tmp_path):
    context, study = searched(tmp_path, [0.5, 0.3], num_final=1, num_final_seeds=1)
    note(context, 0, {1: 0.2})
    note(context, 1, {1: 0.25})
    text = write_report(study, context, final_table(finalists(study, context), context))
    assert "These are the settings given: the search found none that are better." in text


def test_without_finals_the_report_says_that_nothing_was_confirmed(tmp_path):
    context, study = searched(tmp_path, [0.5, 0.3, 0.35, 0.2, 0.4])
    assert "Nothing was trained at full length." in write_report(study, context)
    assert {"trials.csv", "best.yaml", "report.md", "history.png", "importance.png"} <= {
        path.name for path in context.out.iterdir()
    }
    with pytest.raises(ValueError, match=r"no training in .*finals came to its end"):
        final_table(finalists(study, context), context)
