"""Search spaces: read from YAML, checked, suggested with their conditions, applied to settings."""

import re
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml

from ltdiff.search.space import DEFAULT_SPACE, SearchSpace, to_dict
from ltdiff.system.settings_tree import change_settings, make_settings
from ltdiff.training.config import Settings

BASE = Settings()
SPACES = Path(__file__).parents[2] / "tuning" / "spaces"


def _read(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return SearchSpace.read(path, base=BASE)


def test_the_default_space_searches_what_it_promises_and_every_trial_has_valid_settings():
    space = SearchSpace.read(DEFAULT_SPACE, base=BASE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = {"bridge": set(), "ddpm": set()}
    for _ in range(40):
        trial = study.ask()
        chosen = space.suggest(trial)
        settings = change_settings(BASE, chosen)
        assert space.decode(trial.params) == chosen  # what a restart knows is the same
        seen[settings.diffusion.process] |= set(chosen)
        has_betas = settings.diffusion.process == "ddpm" and settings.diffusion.schedule.family == "linear"
        assert ("diffusion.schedule.beta_1" in chosen) == has_betas
    assert "diffusion.kappa" in seen["bridge"] - seen["ddpm"]
    assert "diffusion.schedule.num_train_timesteps" in seen["ddpm"] - seen["bridge"]
    assert {"loss.lambda_image", "loss.supervision_weights", "model.autoencoder.latent_channels"} <= seen["bridge"]
    assert seen["bridge"] | seen["ddpm"] == set(space.parameters)


def test_values_stay_in_their_ranges_and_whole_where_the_ends_are(tmp_path):
    space = _read(tmp_path, "training.ddpm.num_steps: {low: 10, high: 20}\ndiffusion.kappa: {low: 0.1, high: 0.2}\n")
    study = optuna.create_study()
    for _ in range(20):
        chosen = space.suggest(study.ask())
        assert isinstance(chosen["training.ddpm.num_steps"], int)
        assert 10 <= chosen["training.ddpm.num_steps"] <= 20
        assert 0.1 <= chosen["diffusion.kappa"] <= 0.2


def test_settings_go_through_yaml_and_back():
    settings = change_settings(BASE, {"loss.supervision_weights": [0.5, 1.0], "diffusion.schedule.beta_1": 2e-5})
    assert settings.loss.supervision_weights == (0.5, 1.0)
    assert make_settings(Settings, yaml.safe_load(yaml.safe_dump(to_dict(settings)))) == settings
    assert change_settings(BASE, {}) == BASE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must map names of settings"),
        ("[1, 2]", "must map names of settings"),
        ("a: [", "is no search space"),
        ("diffusion.kapa: {low: 0.1, high: 0.2}", "diffusion.kapa = 0.1: there is no setting 'diffusion.kapa'"),
        ("diffusion: {choices: [1, 2]}", "diffusion is a section and takes settings by their names, got 1"),
        ("diffusion.kappa.low: {low: 0.1, high: 0.2}", r"diffusion\.kappa should be a valid number, got \{'low': 0\.1\}"),
        (
            "diffusion.kappa.low.er: {low: 0.1, high: 0.2}",
            r"diffusion\.kappa should be a valid number, got \{'low': \{'er': 0\.1\}\}",
        ),
        ("diffusion.kappa: {low: 0.2, high: 0.1}", "low < high"),
        ("diffusion.kappa: {low: 0.0, high: 0.1, log: true}", "low > 0 where it is logarithmic"),
        ("diffusion.kappa: {low: 1e-4, high: 0.1}", "must be numbers"),
        ("diffusion.kappa: {low: -1.0, high: 0.1}", "kappa = -1.0: .*kappa must not be negative"),
        ("diffusion.kappa: {minimum: 0.1, high: 0.2}", "neither choices nor a range"),
        ("diffusion.kappa: 0.3", "neither choices nor a range"),
        ("diffusion.process: {choices: [bridge]}", "two values or more"),
        ("diffusion.process: {choices: [bridge, bridges]}", "diffusion.process = 'bridges'"),
        (
            "diffusion.kappa: {low: 0.1, high: 0.2, when: {diffusion.process: bridge}}\n"
            "diffusion.process: {choices: [bridge, ddpm]}",
            "depends on diffusion.process, which must stand before it",
        ),
    ],
)
def test_what_is_no_space_is_refused_in_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=rf"space.yaml.*{sentence}"):
        _read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.yaml is no search space"):
        SearchSpace.read(tmp_path / "nothing.yaml", base=BASE)


def test_networks_that_pretrained_do_not_fit_are_refused(tmp_path):
    base = replace(BASE, training=replace(BASE.training, init="pretrained"))
    (tmp_path / "space.yaml").write_text("model.autoencoder.latent_channels: {choices: [[8, 8, 8], [4, 4, 4]]}")
    with pytest.raises(ValueError, match=r"space\.yaml: model\.autoencoder\.latent_channels = \[4, 4, 4\]: .*pretrained weights"):
        SearchSpace.read(tmp_path / "space.yaml", base=base)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_spaces_of_the_repository_are_read_as_their_headers_say(path):
    command = next(line for line in path.read_text().splitlines() if "ltdiff tune" in line)
    assert f"--space tuning/spaces/{path.name}" in command
    changes = dict(re.findall(r"--set (\S+)=(\S+)", command))
    assert SearchSpace.read(path, base=change_settings(Settings(), changes)).parameters
