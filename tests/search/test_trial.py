"""What a trial is: shortened phases, a folder of its own, phase 1 shared, scores on validation regions."""

import json
from dataclasses import replace

import pytest
import torch
from stub_search import make_plan

from ltdiff.data.manifest import read_manifest
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.model.model_folder import read_description
from ltdiff.search import trial
from ltdiff.search.config import REMAINING_ERROR, SECONDS, SearchConfig
from ltdiff.search.trial import SearchContext
from ltdiff.training.config import PhaseConfig
from ltdiff.training.phases import PHASES, JointPhase
from ltdiff.training.run import METRICS_FILE, MODEL_FOLDER, START_FOLDER, finish_phase, prepare_run

RATE, KAPPA = "training.joint.learning_rate", "diffusion.kappa"


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> SearchContext:
    context = make_plan(tmp_path_factory.mktemp("trial") / "search", share=0.5)
    phases = {name: PhaseConfig(num_steps=num_steps) for name, num_steps in zip(PHASES, (10, 0, 80, 0), strict=True)}
    return replace(context, base=replace(context.base, training=replace(context.base.training, **phases)))


def test_a_trial_is_shorter_and_scored_so_often(context):
    training = context.settings({RATE: 5e-3}).training
    assert [getattr(training, name).num_steps for name in PHASES] == [5, 0, 40, 0]
    assert training.joint.num_steps / training.checkpoint_every_steps == context.config.num_scores
    assert training.joint.learning_rate == 5e-3
    least = replace(context, config=SearchConfig(share=1e-6)).settings({}).training
    assert [getattr(least, name).num_steps for name in PHASES] == [1, 0, 9, 0]


def test_trials_with_other_values_have_other_folders(context):
    folders = {context.folder(chosen) for chosen in ({RATE: 1e-3}, {RATE: 2e-3}, {RATE: 2e-3, KAPPA: 0.3})}
    assert len(folders) == 3
    assert context.folder({RATE: 1e-3}) in folders


def test_a_step_that_was_done_again_is_reported_once(context):
    folder = context.folder({RATE: 3e-3}) / "joint"
    folder.mkdir(parents=True)
    rows = [{"step": 10, "a": 1}, {"step": 20, "a": 2}, {"step": 20, "a": 3}, {"step": 30, "a": 4}]
    (folder / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["a"] for row in context.scores({RATE: 3e-3})] == [1, 3, 4]
    assert context.scores({RATE: 4e-3}) == []
    assert context.num_steps({RATE: 4e-3}) == 0


def test_steps_of_all_phases_count_that_a_trial_trained_itself(context):
    for name, last_step in (("ddpm", 7), ("joint", 20)):
        folder = context.folder({RATE: 9e-3}) / name
        folder.mkdir(parents=True)
        (folder / METRICS_FILE).write_text(f'{{"step": 5}}\n{{"step": {last_step}}}\n')
    assert context.num_steps({RATE: 9e-3}) == 27


def _start(context, chosen, *, train):
    settings, folder = context.settings(chosen), context.folder(chosen)
    prepare_run(read_manifest(context.manifest_path), out=folder, settings=settings)
    if train:
        model, _ = load_model(folder / START_FOLDER)
        next(model.decoder.parameters()).data += 1
        finish_phase(model, name="autoencoder", start=folder / START_FOLDER, folder=folder / "autoencoder", metrics={"loss": 0.5})
    return settings, folder


def test_phase_1_is_taken_from_a_trial_that_agrees_in_all_it_depends_on(context):
    _, done = _start(context, {RATE: 6e-3}, train=True)
    settings, folder = _start(context, {RATE: 7e-3, KAPPA: 0.2}, train=False)
    trial._take_phase_1(folder, settings)
    taken, made = (load_model(one / "autoencoder" / MODEL_FOLDER)[0] for one in (folder, done))
    assert all(torch.equal(a, b) for a, b in zip(taken.parameters(), made.parameters(), strict=True))
    about = read_description(folder / "autoencoder" / MODEL_FOLDER)["about"]
    assert about["settings"]["diffusion"]["kappa"] == 0.2  # its own, not the other's
    assert about["trained"] == {"autoencoder": {"loss": 0.5}}


def test_data_that_are_fitted_once_give_the_same_start(context):
    """As each trial of a process begins; and what one trains does not change the next one's."""
    manifest, data = read_manifest(context.manifest_path), trial.fit_data_once(context.manifest_path)
    folders = [context.out.parent / name for name in ("alone", "first", "second")]
    for folder, known in zip(folders, (None, data, trial.fit_data_once(context.manifest_path)), strict=True):
        prepare_run(manifest, out=folder, settings=context.base, data=known)
        model, _ = load_model(folder / START_FOLDER)
        for parameter in model.parameters():
            parameter.data += 1
    alone, *others = (load_model(folder / START_FOLDER)[0].state_dict() for folder in folders)
    for other in others:
        assert alone.keys() == other.keys()
        assert all(torch.equal(alone[name], other[name]) for name in alone)
    about = [read_description(folder / START_FOLDER)["about"] for folder in folders]
    assert about[0] == about[1] == about[2]


@pytest.mark.parametrize(
    "other", [{"training.autoencoder.learning_rate": 5e-3}, {"training.seed": 3}, {"model.kernel_match": False}]
)
def test_phase_1_of_another_kind_is_not_taken(context, other):
    _start(context, {RATE: 8e-3}, train=True)
    settings, folder = _start(context, {RATE: 7e-3, **other}, train=False)
    trial._take_phase_1(folder, settings)
    assert not (folder / "autoencoder").exists()


def test_only_the_last_phase_is_scored(context):
    settings = context.settings({})
    torch.manual_seed(0)
    phase = JointPhase(LTDiff(settings.model), settings)
    score = trial._score_maker(context, settings)()
    assert score("ddpm", phase) == {}
    figures = score("joint", phase)
    classes = [figures[f"ccc_{name}"] for name in ("firstorder", "glcm", "glrlm", "ngtdm")]
    assert figures[REMAINING_ERROR] == pytest.approx(1 - sum(classes) / 4)
    assert 0 < figures[SECONDS] < 60


def test_a_training_that_lasts_a_time_is_refused(context):
    timed = replace(context.base.training, minutes=30)
    with pytest.raises(ValueError, match=r"training\.minutes = 30: a search counts steps"):
        replace(context, base=replace(context.base, training=timed))


def test_settings_without_the_phase_that_is_scored_are_refused(context):
    training = replace(context.base.training, joint=PhaseConfig(num_steps=0))
    with pytest.raises(ValueError, match=r"training\.joint\.num_steps = 0: trials are scored in this phase"):
        replace(context, base=replace(context.base, training=training))


def test_without_room_for_a_region_a_search_says_so(context, monkeypatch):
    monkeypatch.setattr("ltdiff.uncertainty.validation_ccc.MIN_WIDTH_PX", 4096)
    with pytest.raises(ValueError, match=r"have room for 0 of \d+ regions, and a CCC needs two"):
        trial.validation_regions(context)
