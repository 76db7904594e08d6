"""The first trials: the settings given, a user's file, and what earlier searches know."""

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from stub_search import make_plan, make_study

from ltdiff.search.first_trials import OWN_SETTINGS, add_first_trials, origin
from ltdiff.search.study import EARLIER, ORIGIN, ended_trials, known_trials, open_study

RATE, PROCESS, KAPPA = "training.joint.learning_rate", "diffusion.process", "diffusion.kappa"


def waiting(study: optuna.Study) -> list[tuple[str, dict]]:
    """(origin, values) of what is to be tried, in order."""
    trials = study.get_trials(states=(TrialState.WAITING,))
    return [(trial.user_attrs[ORIGIN], trial.system_attrs["fixed_params"]) for trial in trials]


def run(context, errors: list[float], *, stopped: int = 0):
    """A search whose trials had these remaining errors; the last `stopped` of them were stopped after two scores."""
    study = open_study(context)
    for number, error in enumerate(errors):
        trial = study.ask()
        context.space.suggest(trial)
        is_stopped = number >= len(errors) - stopped
        scores = range(1, 3 if is_stopped else context.config.num_scores + 1)
        for score in scores:
            trial.report(error + len(scores) - score, score)
        study.tell(trial, None if is_stopped else error, state=TrialState.PRUNED if is_stopped else TrialState.COMPLETE)
    return study


@pytest.fixture
def context(tmp_path):
    return make_plan(tmp_path / "search")


def given(context) -> dict:
    base = context.base
    return {RATE: base.training.joint.learning_rate, PROCESS: "bridge", KAPPA: base.diffusion.kappa}


def test_the_settings_given_come_first_and_once(context):
    study = make_study(context)
    for _ in range(2):
        add_first_trials(study, context, [])
    assert waiting(study) == [(OWN_SETTINGS, given(context))]
    trial = study.ask()
    assert context.space.suggest(trial) == given(context)
    study.tell(trial, state=TrialState.FAIL)
    add_first_trials(study, context, [])
    assert waiting(study) == []  # a failed one is not tried again


def test_settings_outside_the_space_are_not_tried_and_named(tmp_path, caplog):
    context = make_plan(tmp_path / "search")
    context.space.parameters[RATE].__dict__["low"] = 5e-3
    study = make_study(context)
    add_first_trials(study, context, [])
    assert waiting(study) == []
    assert f"the search space has no {RATE} = {context.base.training.joint.learning_rate!r} lies outside" in caplog.text


def test_a_file_of_settings_is_tried_next(context, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"diffusion": {"process": "ddpm"}, "search": {"num_trials": 3}}))
    study = make_study(context)
    add_first_trials(study, context, [path])
    assert waiting(study)[1:] == [(str(path), {RATE: given(context)[RATE], PROCESS: "ddpm"})]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("diffusion: {kappa: 3.0}", "diffusion.kappa = 3.0 lies outside 0.02…0.5"),
        ("diffusion: {kapa: 0.1}", "there is no setting 'diffusion.kapa'"),
        ("- 1", "must map names of sections"),
    ],
)
def test_a_file_that_cannot_be_tried_is_refused(context, tmp_path, text, reason):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.yaml cannot be tried: .*{reason}"):
        add_first_trials(make_study(context), context, [tmp_path / "mine.yaml"])


def test_the_trials_of_a_search_that_scores_alike_are_known(context, tmp_path):
    """They count as known, and not as trials of this search; and are taken over once."""
    earlier = make_plan(tmp_path / "earlier", seed=5)
    before = run(earlier, [0.3, 0.2, 0.4], stopped=1)
    study = make_study(context)
    for _ in range(2):
        add_first_trials(study, context, [earlier.out])
    assert [trial.number for trial in ended_trials(study)] == []
    known = known_trials(study)
    assert [(trial.params, trial.values, trial.state) for trial in known] == [
        (trial.params, trial.values, trial.state) for trial in known_trials(before)
    ]
    assert [trial.intermediate_values for trial in known] == [trial.intermediate_values for trial in known_trials(before)]
    assert [origin(trial) for trial in known] == [f"{earlier.out}, trial {number}" for number in range(3)]
    assert all(trial.user_attrs[EARLIER] for trial in known)
    assert [name for name, _ in waiting(study)] == [OWN_SETTINGS]


def test_settings_that_an_earlier_search_has_tried_are_not_tried_again(context, tmp_path):
    earlier = make_plan(tmp_path / "earlier", seed=5)
    study = open_study(earlier)
    add_first_trials(study, earlier, [])
    run(earlier, [0.3])
    mine = make_study(context)
    add_first_trials(mine, context, [earlier.out])
    assert waiting(mine) == []


def test_the_best_of_a_search_that_scores_otherwise_are_tried_again(context, tmp_path):
    earlier = make_plan(tmp_path / "earlier", num_rois=7)
    before = run(earlier, [0.5, 0.2, 0.4, 0.3, 0.1], stopped=1)  # the last was stopped: 0.1 is not an end
    study = make_study(context)
    add_first_trials(study, context, [earlier.out])
    assert known_trials(study) == []
    names = [OWN_SETTINGS, *(f"{earlier.out}, trial {number} again" for number in (1, 3, 2))]
    assert [name for name, _ in waiting(study)] == names
    assert [values for _, values in waiting(study)][1:] == [known_trials(before)[number].params for number in (1, 3, 2)]


def test_what_is_no_search_is_refused(context, tmp_path):
    study = make_study(context)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no search that can be read"):
        add_first_trials(study, context, [tmp_path / "empty"])
    with pytest.raises(ValueError, match="is this search itself"):
        add_first_trials(study, context, [context.out])
    with pytest.raises(ValueError, match=r"nothing\.yaml cannot be tried: there is no configuration"):
        add_first_trials(study, context, [tmp_path / "nothing.yaml"])
