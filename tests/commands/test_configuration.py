"""The named configurations, and what `--config` and `--set` make of them."""

from dataclasses import fields
from pathlib import Path

import pytest

from ltdiff.commands.command_line import UsageError
from ltdiff.commands.compare_command import UNUSED, compare
from ltdiff.commands.configuration import Configuration, read_settings_of
from ltdiff.system.settings_tree import change_settings, list_settings
from ltdiff.training.config import read_settings

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "ltdiff" / "configs").glob("*.yaml"))
ALL = [section.name for section in fields(Configuration)]


def test_the_configurations_have_their_names():
    assert CONFIGS == ["default", "demo", "fast", "paper"]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_named_configuration_is_valid(name):
    assert read_settings_of(name, (), sections=ALL).run == read_settings(name)


def test_default_is_the_defaults_of_the_classes():
    assert read_settings_of("default", (), sections=ALL) == Configuration()


def test_fast_is_a_third_of_the_default():
    def steps(name):
        training = read_settings(name).training
        return sum(phase.num_steps for phase in (training.autoencoder, training.ddpm, training.joint))

    assert 0.3 <= steps("fast") / steps("default") <= 0.36


def test_assignments_change_the_configuration_and_are_typed():
    changed = read_settings_of(
        "paper",
        [
            "loss.lambda_image=3",
            "loss.supervision_weights=[0.5, 1]",
            "training.joint.learning_rate=1e-5",
            "simulation.iterative.num_iterations=3",
            "simulation.source_kernel=Br40-like",
            "inference.num_inference_steps=",
            "evaluation.features=catalogue",
        ],
        sections=ALL,
    )
    paper = read_settings_of("paper", (), sections=ALL)
    assert changed.loss.lambda_image == 3.0
    assert changed.loss.supervision_weights == (0.5, 1.0)
    assert changed.training.joint.learning_rate == 1e-5
    assert changed.training.joint.num_steps == paper.training.joint.num_steps
    assert changed.simulation.iterative.num_iterations == 3
    assert changed.simulation.iterative.edge_hu == 40.0
    assert changed.simulation.source_kernel == "Br40-like"
    assert changed.inference.num_inference_steps is None
    assert changed.evaluation.features == "catalogue"
    assert changed.diffusion == paper.diffusion


def test_values_in_braces_are_the_same_as_dotted_names():
    braces = read_settings_of("default", ["training.joint={num_steps: 5, learning_rate: 0.1}"], sections=["training"])
    dotted = ["training.joint.num_steps=5", "training.joint.learning_rate=0.1"]
    assert braces == read_settings_of("default", dotted, sections=["training"])


def test_a_file_and_assignments_that_only_fit_together_are_taken(tmp_path):
    (tmp_path / "two.yaml").write_text(
        "model: {autoencoder: {channels: [8, 8], latent_channels: [4, 2]}, denoiser: {channels: [8, 8]}}"
    )
    both = read_settings_of(str(tmp_path / "two.yaml"), ["loss.supervision_weights=[1]"], sections=ALL)
    assert both.model.autoencoder.num_levels == 2
    with pytest.raises(ValueError, match=r"two\.yaml: loss\.supervision_weights must name one weight"):
        read_settings_of(str(tmp_path / "two.yaml"), (), sections=ALL)


@pytest.mark.parametrize("assignment", ["inference.seed=1", "training.joint.num_steps=5", "training.joint={num_steps: 5}"])
def test_what_has_no_effect_is_refused(assignment):
    with pytest.raises(UsageError, match="has no effect here"):
        read_settings_of("default", [assignment], sections=["training"], unused=["training.joint.num_steps"])
    assert read_settings_of("default", ["training.joint.learning_rate=1"], sections=["training"], unused=UNUSED)


def test_what_a_comparison_does_not_use_are_settings():
    names = {setting.name for setting in list_settings(Configuration())}
    assert names.issuperset(UNUSED)


def test_every_setting_has_a_meaning_and_takes_its_own_default():
    for setting in list_settings(Configuration()):
        assert setting.meaning, setting.name
    listed = [f"{one.name}={one.default}" for one in list_settings(Configuration())]
    assert read_settings_of("default", listed, sections=ALL) == Configuration()
    assert change_settings(Configuration(), {}) == Configuration()


@pytest.mark.parametrize("unused", ["num_workers=3", "minutes=5", "init=pretrained", "use_gpu=true", "joint.num_steps=5"])
def test_a_comparison_refuses_settings_without_effect(tmp_path, unused):
    with pytest.raises(UsageError, match="has no effect here"):
        compare(tmp_path / "pairs.parquet", out=tmp_path / "out", settings=(f"training.{unused}",))
    assert not (tmp_path / "out").exists()
