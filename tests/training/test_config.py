"""Settings: what is shipped is what was decided; what is wrong is refused naming key and value."""

import math

import pytest

from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.model.config import AutoencoderConfig, ModelConfig
from ltdiff.training.config import LossConfig, PhaseConfig, Settings, TrainingConfig, read_settings


@pytest.mark.parametrize(
    ("make", "bad", "named"),
    [
        (LossConfig, {"supervision_weights": (0.5, -1.0)}, r"supervision_weights .*\(0.5, -1.0\)"),
        (LossConfig, {"supervision_weights": (0.0, 0.0)}, "supervision_weights"),
        (LossConfig, {"supervision_weights": ()}, "supervision_weights"),
        (LossConfig, {"lambda_image": -1.0}, "lambda_image .*-1"),
        (PhaseConfig, {"num_steps": -1}, "num_steps .*-1"),
        (PhaseConfig, {"num_steps": 1, "learning_rate": 0.0}, "learning_rate .*0.0"),
        (TrainingConfig, {"minutes": 0.0}, "minutes must be above 0, got 0.0"),
        (TrainingConfig, {"minutes": -2.0}, "minutes must be above 0, got -2.0"),
        (TrainingConfig, {"minutes": math.nan}, "minutes must be above 0, got nan"),
        (TrainingConfig, {"minutes": 1.0, "num_workers": 2}, "minutes needs num_workers 1, got 2"),
        (TrainingConfig, {"learning_rates": ()}, "learning_rates must name at least one"),
        (TrainingConfig, {"learning_rates": (1e-3, 0.0)}, r"learning_rates must .* above 0, got \(0.001, 0.0\)"),
        (TrainingConfig, {"patch_size": 0}, "patch_size must be at least 1, got 0"),
        (TrainingConfig, {"batch_size_per_worker": 0}, "batch_size_per_worker"),
        (TrainingConfig, {"num_workers": 0}, "num_workers"),
        (
            TrainingConfig,
            {"gradient_accumulation_steps": 0},
            "gradient_accumulation_steps must divide batch_size_per_worker 8, got 0",
        ),
        (
            TrainingConfig,
            {"gradient_accumulation_steps": 3},
            "gradient_accumulation_steps must divide batch_size_per_worker 8, got 3",
        ),
        (TrainingConfig, {"checkpoint_every_steps": 0}, "checkpoint_every_steps"),
        (TrainingConfig, {"ema_decay": 1.0}, "ema_decay .*got 1.0"),
        (TrainingConfig, {"ema_decay": -0.1}, "ema_decay .*got -0.1"),
    ],
)
def test_bad_values_are_refused(make, bad, named):
    with pytest.raises(ValueError, match=named):
        make(**bad)


def test_phases_share_the_minutes_and_the_joint_one_has_the_rest():
    def minutes(**training):
        config = TrainingConfig(**training)
        return {name: pytest.approx(config.minutes_of(name)) for name in config.phases}

    assert minutes(minutes=50.0) == {"autoencoder": 2, "ddpm": 2, "joint": 41, "residual": 5}
    assert minutes(minutes=50.0, init="pretrained") == {"ddpm": 2, "joint": 43, "residual": 5}
    assert TrainingConfig(num_workers=2).minutes_of("joint") is None


def test_learning_rates_are_tried_in_a_joint_phase_of_minutes_that_names_none():
    timed, rates = TrainingConfig(minutes=20.0), TrainingConfig().learning_rates
    assert len(rates) == 3
    assert [timed.rates_of(name) for name in timed.phases] == [(1e-3,), (1e-3,), rates, (2e-3,)]
    assert TrainingConfig().rates_of("joint") == (1e-3,)
    assert TrainingConfig(minutes=20.0, joint=PhaseConfig(1, learning_rate=5e-4)).rates_of("joint") == (5e-4,)


def test_sections_that_contradict_each_other_are_refused():
    two_levels = ModelConfig(autoencoder=AutoencoderConfig(channels=(8, 8), latent_channels=(4, 2)))
    with pytest.raises(ValueError, match=r"loss\.supervision_weights .* 1 image heads, got \(0\.1, 1\.0\)"):
        Settings(model=two_levels)
    with pytest.raises(ValueError, match=r"training\.patch_size must be a multiple of 8, got 100"):
        Settings(training=TrainingConfig(patch_size=100))


def test_the_paper_as_printed():
    paper = read_settings("paper")
    assert paper.diffusion == DiffusionConfig(process="ddpm", paper_start=True, start_timestep=1000, num_inference_steps=50)
    assert (paper.loss.reconstruction, paper.loss.decode) == ("bce_dice", "direct")
    assert paper.model.autoencoder.encoder_skips
    assert not paper.model.kernel_match
    rates = {phase.learning_rate for phase in (paper.training.autoencoder, paper.training.ddpm, paper.training.joint)}
    assert rates == {1e-4}


def test_the_demo_differs_from_the_default_in_its_length_alone():
    demo, default = read_settings("demo"), Settings()
    assert (demo.model, demo.diffusion, demo.loss) == (default.model, default.diffusion, default.loss)
    assert 0 < demo.training.ddpm.num_steps < default.training.ddpm.num_steps


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no configuration 'nothing'"):
        read_settings("nothing")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("diffusion: {kapa: 0.1}", "kapa"),
        ("diffusion: {kappa: much}", "kappa"),
        ("diffusion: {kappa: -1.0}", "kappa must not be negative, got -1.0"),
        ("loss: {decode: both}", "decode"),
        ("training: {ddpm: {num_steps: 1.5}}", "num_steps"),
    ],
)
def test_a_bad_file_is_refused_naming_key_and_file(tmp_path, text, named):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.yaml: .*{named}"):
        read_settings(str(tmp_path / "mine.yaml"))


def test_pretrained_have_been_through_the_first_phase():
    phases = {name: PhaseConfig(num_steps=3) for name in ("autoencoder", "ddpm", "joint", "residual")}
    assert TrainingConfig(**phases, init="scratch").phases == tuple(phases)
    assert TrainingConfig(**phases, init="pretrained").phases == ("ddpm", "joint", "residual")
    without = phases | {"ddpm": PhaseConfig(num_steps=0)}
    assert TrainingConfig(**without, init="scratch").phases == ("autoencoder", "joint", "residual")


def test_where_minutes_are_those_of_a_cpu_a_batch_is_small():
    """But for phase 4, which uses its batches in quarters; a checkpoint comes after as many patches."""
    few, many = TrainingConfig(minutes=3), TrainingConfig()
    assert [few.batch_size_of(name) for name in ("joint", "residual")] == [2, 8]
    assert [few.checkpoint_every(name) for name in ("joint", "residual")] == [800, 200]
    for config in (many, TrainingConfig(minutes=3, use_gpu=True)):
        assert (config.batch_size, config.batch_size_of("residual"), config.checkpoint_every("joint")) == (8, 8, 200)
    chosen = TrainingConfig(minutes=3, batch_size_per_worker=5, checkpoint_every_steps=7)
    assert (chosen.batch_size_of("residual"), chosen.checkpoint_every("joint")) == (5, 7)
