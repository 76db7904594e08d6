"""Phase 4: what its steps are fed, and that it finds what the mean leaves over."""

import numpy as np
import pytest
import torch
from tiny_run import tiny_settings

from ltdiff.model.ltdiff import LTDiff
from ltdiff.training.config import PhaseConfig
from ltdiff.training.loop import train
from ltdiff.training.phase import BatchNoise
from ltdiff.training.phases import PHASES
from ltdiff.training.residual_phase import MEAN, NUM_PARTS, ResidualPhase
from ltdiff.training.worker_context import local_context

SIDE = 32


@pytest.fixture
def phase():
    torch.manual_seed(0)
    settings = tiny_settings(residual=PhaseConfig(80, learning_rate=1e-2))
    return ResidualPhase(LTDiff(settings.model), settings)


def _batch(number, size=4):
    """An untrained model's A' is A; B lies 20 HU above where A is positive, and else as far below."""
    random = np.random.default_rng(number)
    source = random.integers(-200, 200, (size, SIDE, SIDE)).astype(np.int16)
    target = source + np.where(source > 0, np.int16(20), np.int16(-20))
    place = np.zeros(source.shape, np.float32)
    images = {"source": source, "target": target, "y_mm": place, "x_mm": place}
    return {name: torch.from_numpy(values) for name, values in images.items()}


def test_a_batch_is_used_in_quarters_that_cover_it(phase):
    batch = _batch(0)
    used = list(phase.feed(batch))
    assert len(used) == phase.num_uses
    whole = phase.mean(batch)[:, 0]
    rows = [torch.cat([used[i][MEAN], used[i + 1][MEAN]], dim=2) for i in (0, 2)]
    torch.testing.assert_close(torch.cat(rows, dim=1), whole)
    for name in batch:
        assert used[NUM_PARTS][name].shape == (4, SIDE // 2, SIDE // 2)
        torch.testing.assert_close(used[NUM_PARTS][name], used[0][name])


def test_the_mean_of_a_part_is_that_of_the_whole(phase):
    """It is made once: a part of a batch has the losses of its images, whoever made their A'."""
    batch = _batch(0)
    phase.prepare(lambda num: _batch(9, num))
    given = {**batch, MEAN: phase.mean(batch)[:, 0]}
    made, taken = (phase(images, BatchNoise(0, range(4)))["loss"] for images in (batch, given))
    torch.testing.assert_close(made, taken)


def test_it_learns_what_no_gaussian_draws(phase):
    phase.prepare(lambda num: _batch(9, num))
    settings = tiny_settings()
    trained = train(
        phase,
        name="residual",
        config=settings.training,
        batches=lambda first: map(_batch, range(first, 80)),
        validation=lambda: iter(()),
        context=local_context(lambda *_: None),
    )
    assert trained.residual_noise.sigma_hu[5][0] == pytest.approx(20, abs=1)
    losses = [module(_batch(100), BatchNoise(0, range(4)))["loss"].item() for module in (_untrained(), trained)]
    assert losses[1] < 0.9 * losses[0]


def _untrained():
    torch.manual_seed(0)
    settings = tiny_settings(residual=PhaseConfig(80))
    phase = ResidualPhase(LTDiff(settings.model), settings)
    phase.prepare(lambda num: _batch(9, num))
    return phase


def test_an_interrupted_run_goes_on_in_the_middle_of_a_batch(phase, tmp_path):
    """The batches of the stream, and the parts of the first one, that were used are left out."""
    seen = []

    def batches(first):
        seen.append(first)
        return map(_batch, range(first, 80))

    settings = tiny_settings(residual=PhaseConfig(2 * phase.num_uses + 3))
    names = {name for name in PHASES if getattr(settings.training, name).num_steps}
    assert "residual" in names
    kept = {}

    def keep(metrics, checkpoint):
        if checkpoint is not None:
            kept[int(metrics["step"])] = {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    def run(must_save_after, resume_from=None):
        torch.manual_seed(0)
        new = ResidualPhase(LTDiff(settings.model), settings)
        new.prepare(lambda num: _batch(9, num))
        count = iter(range(1, 1000))
        context = local_context(keep)
        context = type(context)(**{**vars(context), "must_save": lambda: next(count) == must_save_after})
        return train(
            new,
            name="residual",
            config=settings.training,
            batches=batches,
            validation=lambda: iter(()),
            context=context,
            resume_from=resume_from,
        )

    whole = run(0).state_dict()
    run(phase.num_uses + 2)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in kept[phase.num_uses + 2].items():
        (folder / name).write_bytes(content)
    resumed = run(0, resume_from=folder).state_dict()
    assert seen == [0, 0, 1]
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
