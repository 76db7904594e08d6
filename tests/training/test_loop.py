"""The training loop in this process: resuming, averaging, reporting, refusing to go on with nonsense."""

import hashlib
import itertools
import json
import math
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import tiny_settings
from torch import nn

from ltdiff.data.manifest import read_manifest
from ltdiff.data.patches import PatchLoader
from ltdiff.data.slice_items import make_items
from ltdiff.model.ltdiff import LTDiff
from ltdiff.training.checkpoint import META_FILE
from ltdiff.training.config import PhaseConfig, TrainingConfig
from ltdiff.training.fit_kernel_match import KernelMatcher
from ltdiff.training.loop import BETAS, NUM_WARMUP_STEPS, Clock, clip_to_usual_norms, learning_rate, train
from ltdiff.training.phase import Phase, PhaseTask
from ltdiff.training.phases import PHASES
from ltdiff.training.worker_context import NUM_VALIDATION_PATCHES, BatchSource, WorkerContext, local_context, make_loaders


class _Killed(BaseException):
    """Stands for kill −9: nothing catches it."""


class _Reports:
    """Keeps what is reported; dies, like a killed worker, after the report of a given step."""

    def __init__(self, folder, *, die_at=None):
        self.folder, self.die_at = folder, die_at
        self.metrics = []

    def __call__(self, metrics, checkpoint):
        self.metrics.append(metrics)
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.folder / f"{int(metrics['step'])}")
        if metrics["step"] == self.die_at:
            raise _Killed


# --- a phase of one weight --------------------------------------------------------------------------------------------


class _OneWeight(Phase):
    """The loss is (weight − 3)²·scale, and what the loop handed over is kept."""

    uses_pairs = False

    def __init__(self, num_steps=5, rate=0.1):
        super().__init__()
        self.config = PhaseConfig(num_steps=num_steps, learning_rate=rate)
        self.weight = nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("seen", torch.zeros(()))
        self.seeds, self.weights = [], []

    def forward(self, batch, noise):
        if self.training:
            self.seeds += [generator.initial_seed() for generator in noise.generators]
            self.weights.append(self.weight.item())
            self.seen += 1
        loss = (self.weight - 3).square() * batch["scale"].mean() * self.frozen
        return {"loss": loss, "other": loss.detach() * 2}


def _scales(values):
    return lambda first: ({"scale": torch.tensor([value])} for value in itertools.islice(values, first, None))


def _train_one_weight(
    phase,
    report,
    *,
    scales=(1.0,) * 5,
    validation=(),
    rank=0,
    minutes=None,
    resume_from=None,
    must_save=bool,
    mean=dict,
    **config,
):
    config = {"checkpoint_every_steps": 2, "precision": "fp32"} | config
    context = WorkerContext(rank, 2, torch.device("cpu"), report, wrap=lambda module: module, mean=mean, must_save=must_save)
    return train(
        phase,
        name="phase",
        config=TrainingConfig(**config),
        batches=_scales(scales),
        validation=lambda: iter([{"scale": torch.tensor([value])} for value in validation]),
        context=context,
        minutes=minutes,
        resume_from=resume_from,
    )


@pytest.mark.parametrize("num_steps", [1, 10, 49, 1000])
def test_learning_rate(num_steps):
    warmup = min(NUM_WARMUP_STEPS, num_steps)

    def rate(step):
        return learning_rate(step, peak=2.0, num_warmup_steps=warmup, part_done=step / num_steps)

    rates = np.array([rate(step) for step in range(num_steps)])
    cosine = 1 + np.cos(np.pi * np.arange(num_steps) / num_steps)  # times ½ and the peak of 2
    np.testing.assert_allclose(rates, cosine * np.minimum(1, (np.arange(num_steps) + 1) / warmup))
    assert (np.diff(rates[warmup:]) < 0).all()
    assert rates[0] == pytest.approx(2.0 / warmup)
    assert rate(num_steps) == 0


def test_the_learning_rate_follows_what_is_done_not_the_number_of_steps():
    """A phase that ends by the clock knows no number of steps."""
    few, many = (learning_rate(step, peak=2.0, num_warmup_steps=50, part_done=0.25) for step in (60, 6000))
    assert few == many == pytest.approx(1 + math.cos(math.pi / 4))


def test_the_loop_warms_up_and_comes_to_rest():
    """AdamW's first step is as long as the rate; the phase is shorter than the usual warm-up."""
    phase = _OneWeight(num_steps=20, rate=0.001)
    _train_one_weight(phase, lambda *_: None, scales=(1.0,) * 20)
    steps = np.diff([*phase.weights, phase.weight.item()])
    expected = [learning_rate(k, peak=0.001, num_warmup_steps=20, part_done=k / 20) for k in range(20)]
    np.testing.assert_allclose(steps, expected, rtol=0.05)


def test_checkpoints_come_every_so_many_steps_and_at_the_end(tmp_path):
    reports = _Reports(tmp_path)
    _train_one_weight(_OneWeight(), reports)
    assert [metrics["step"] for metrics in reports.metrics] == [2, 4, 5]
    assert {path.name for path in tmp_path.iterdir()} == {"2", "4", "5"}


def test_metrics_are_means_since_the_last_report(tmp_path):
    phase, reports, scales = _OneWeight(), _Reports(tmp_path), (1.0, 2.0, 3.0, 4.0, 5.0)
    _train_one_weight(phase, reports, scales=scales)
    losses = [(weight - 3) ** 2 * scale for weight, scale in zip(phase.weights, scales, strict=True)]
    expected = [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
    assert [metrics["loss"] for metrics in reports.metrics] == pytest.approx(expected)
    assert [metrics["other"] for metrics in reports.metrics] == pytest.approx([2 * loss for loss in expected])


def test_validation_scores_the_averaged_weights(tmp_path):
    reports = _Reports(tmp_path)
    averaged = _train_one_weight(_OneWeight(), reports, validation=(1.0, 3.0), ema_decay=0.5)
    last = reports.metrics[-1]
    assert last["val_loss"] == pytest.approx((averaged.weight.item() - 3) ** 2 * 2)
    assert last["val_other"] == pytest.approx(2 * last["val_loss"])
    assert averaged.seen == 5  # validation leaves no trace


def test_every_worker_validates_its_share_and_the_first_one_writes(tmp_path):
    reports, meant = _Reports(tmp_path), []
    _train_one_weight(_OneWeight(), reports, rank=1, validation=(1.0,), mean=lambda metrics: meant.append(metrics) or metrics)
    losses = {f"{split}{name}" for split in ("", "val_") for name in ("loss", "other")}
    assert [set(metrics) for metrics in meant] == [losses | {"wait_share", "steps_per_s"}] * 3
    assert list(tmp_path.iterdir()) == []


def test_workers_validate_different_patches(manifest_path):
    """Together they are as many patches in their order."""
    settings, manifest = tiny_settings(), read_manifest(manifest_path)
    task = PhaseTask(
        name="joint",
        network=torch.nn.Linear(1, 1),
        make=lambda rate: None,
        draw="pairs",
        match_kernel=KernelMatcher(None),
        make_source=None,
        config=settings.training,
        folder=manifest_path.parent,
        learning_rates=(1e-3,),
    )
    loaders = make_loaders(manifest, task)
    of_rank = [
        list(BatchSource(loaders, task, replace(local_context(print), rank=rank, world_size=2)).validation()) for rank in (0, 1)
    ]
    whole = loaders["val"]({"id": np.arange(2 * NUM_VALIDATION_PATCHES)})
    together = torch.cat([batch["target"] for batches in of_rank for batch in batches])
    np.testing.assert_array_equal(together.numpy(), whole["target"])


def test_a_run_that_is_about_to_be_ended_writes_a_checkpoint_after_the_step_in_hand(tmp_path):
    """At once: no validation before it."""
    phase, reports = _OneWeight(), _Reports(tmp_path)
    _train_one_weight(phase, reports, validation=(1.0,), must_save=lambda: len(phase.weights) == 3)
    assert [metrics["step"] for metrics in reports.metrics] == [2, 3, 4, 5]
    assert ["val_loss" in metrics for metrics in reports.metrics] == [True, False, True, True]
    assert (tmp_path / "3").is_dir()


def test_the_last_checkpoint_is_validated_whatever_comes(tmp_path):
    phase, reports = _OneWeight(), _Reports(tmp_path)
    _train_one_weight(phase, reports, validation=(1.0,), must_save=lambda: len(phase.weights) == 5)
    assert "val_loss" in reports.metrics[-1]
    assert reports.metrics[-1]["step"] == 5


def test_the_share_of_the_time_that_is_spent_waiting_for_data(tmp_path):
    """Not for the first batch: reading it is no training."""
    phase, reports = _OneWeight(num_steps=4), _Reports(tmp_path)

    def slow(first):
        for _ in range(4):
            time.sleep(0.1)
            yield {"scale": torch.ones(1)}

    context = WorkerContext(0, 1, torch.device("cpu"), reports, wrap=lambda module: module)
    config = TrainingConfig(precision="fp32")
    train(phase, name="phase", config=config, batches=slow, validation=lambda: iter(()), context=context)
    assert 0.8 < reports.metrics[-1]["wait_share"] <= 1
    _train_one_weight(_OneWeight(), quick := _Reports(tmp_path / "quick"))
    assert quick.metrics[-1]["wait_share"] < 0.5


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.998])
def test_moving_average(tmp_path, decay):
    """The decay is held back at the start, (1 + n)/(10 + n) after n updates, so that early weights are forgotten."""
    phase = _OneWeight(num_steps=20)
    averaged = _train_one_weight(phase, _Reports(tmp_path), scales=(1.0,) * 20, ema_decay=decay)
    after = [*phase.weights[1:], phase.weight.item()]
    expected = after[0]
    for n, weight in enumerate(after[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * weight
    assert averaged.weight.item() == pytest.approx(expected, rel=1e-5)
    assert averaged.frozen.item() == 1
    assert averaged is not phase


def test_noise_is_a_function_of_the_seed_and_the_patch(tmp_path):
    """Two workers with a patch each have between them the noise of one worker with both."""
    seeds = {}
    for key in ((0, 0), (0, 1), (1, 0)):
        phase = _OneWeight()
        _train_one_weight(phase, lambda *_: None, seed=key[0], rank=key[1])
        seeds[key] = phase.seeds
    again = _OneWeight()
    _train_one_weight(again, lambda *_: None)
    assert again.seeds == seeds[0, 0]
    assert len({seed for run in seeds.values() for seed in run}) == 15
    both = _OneWeight()
    pairs = lambda first: iter([{"scale": torch.ones(2)}] * 5)  # noqa: E731
    context = WorkerContext(0, 1, torch.device("cpu"), lambda *_: None, wrap=lambda module: module)
    train(both, name="phase", config=TrainingConfig(), batches=pairs, validation=lambda: iter(()), context=context)
    assert both.seeds == [seed for pair in zip(seeds[0, 0], seeds[0, 1], strict=True) for seed in pair]


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_ends_the_run_before_it_does_harm(tmp_path, scale):
    phase = _OneWeight()
    with pytest.raises(FloatingPointError, match="gradient at step 3 is not finite"):
        _train_one_weight(phase, _Reports(tmp_path), scales=(1.0, 1.0, scale, 1.0, 1.0))
    assert math.isfinite(phase.weight.item())
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_large_gradients_are_clipped(tmp_path):
    """AdamW does not see a constant scale, but it sees one batch that is a million times the others, unless it is clipped."""
    calm, wild = _OneWeight(rate=0.01), _OneWeight(rate=0.01)
    _train_one_weight(calm, lambda *_: None, scales=(1.0,) * 5)
    _train_one_weight(wild, lambda *_: None, scales=(1.0, 1e6, 1.0, 1.0, 1.0))
    assert wild.weight.item() == pytest.approx(calm.weight.item(), rel=0.01)


def _optimizer_after(*gradients, last):
    """AdamW over two tensors that has seen some gradients, before its step with the last ones."""
    tensors = [torch.nn.Parameter(torch.zeros(2)) for _ in last]
    optimizer = torch.optim.AdamW(tensors, betas=BETAS)
    for several in gradients:
        for tensor, gradient in zip(tensors, several, strict=True):
            tensor.grad = torch.tensor(gradient)
        optimizer.step()
    for tensor, gradient in zip(tensors, last, strict=True):
        tensor.grad = torch.tensor(gradient)
    return optimizer, tensors


def test_each_tensor_is_clipped_to_its_own_usual_norm():
    """After equal gradients of norm 5 and 0.1 the usual norms are these; small gradients stay as they are."""
    usual = ([3.0, 4.0], [0.06, 0.08])
    optimizer, (first, second) = _optimizer_after(usual, usual, last=([300.0, 400.0], [0.03, 0.04]))
    assert clip_to_usual_norms(optimizer)
    torch.testing.assert_close(first.grad, torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(second.grad, torch.tensor([0.03, 0.04]))


def test_a_tensor_that_had_no_gradient_so_far_is_not_clipped():
    """Behind a layer that begins with zeros; clipped to a norm of 0 it would never learn."""
    usual = ([3.0, 4.0], [0.0, 0.0])
    optimizer, (_, second) = _optimizer_after(usual, last=([3.0, 4.0], [6.0, 8.0]))
    assert clip_to_usual_norms(optimizer)
    torch.testing.assert_close(second.grad, torch.tensor([6.0, 8.0]))


def test_the_first_gradients_are_not_clipped():
    optimizer, (first,) = _optimizer_after(last=([300.0, 400.0],))
    assert clip_to_usual_norms(optimizer)
    torch.testing.assert_close(first.grad, torch.tensor([300.0, 400.0]))


# --- a phase that ends by the clock ----------------------------------------------------------------------------------


def test_a_clock_counts_steps():
    clock = Clock(8, elapsed_s=1000.0)
    assert [clock.part_done(steps) for steps in (0, 2, 8, 9)] == [0, 0.25, 1, 1]


def test_a_clock_with_minutes_counts_these_alone():
    assert Clock(100, 2.0).part_done(0) == pytest.approx(0, abs=0.05)
    halfway = Clock(100, 2.0, elapsed_s=60.0)
    assert 60 <= halfway.elapsed_s < 70
    assert halfway.part_done(10) == pytest.approx(0.5, abs=0.05)
    assert halfway.part_done(1000) == pytest.approx(0.5, abs=0.05)
    assert Clock(100, 2.0, elapsed_s=500.0).part_done(0) == 1


def test_a_phase_ends_when_its_minutes_are_over(tmp_path):
    """However many steps its configuration names; and its learning rate is warmed up as that of any long phase."""
    phase, reports = _OneWeight(num_steps=5, rate=1e-3), _Reports(tmp_path)
    clock = Clock(5)
    scales = itertools.repeat(1.0)
    _train_one_weight(phase, reports, scales=scales, minutes=0.005, checkpoint_every_steps=10_000)
    assert 0.3 <= clock.elapsed_s < 30
    assert [metrics["step"] for metrics in reports.metrics] == [len(phase.weights)]  # its last step, in a checkpoint
    steps = np.abs(np.diff([*phase.weights, phase.weight.item()]))
    assert steps[0] < 0.1 * steps.max()
    assert steps[-1] < 0.2 * steps.max()  # the learning rate had come down by then


RATE = 1e-3


def _elapsed_s(checkpoint):
    return json.loads((checkpoint / META_FILE).read_text())["elapsed_s"]


@pytest.fixture
def interrupted(tmp_path):
    """A checkpoint after two steps of a phase that has half a minute, and the time it was told to have taken."""

    def make(elapsed_s):
        with pytest.raises(_Killed):
            _train_one_weight(_OneWeight(rate=RATE), _Reports(tmp_path, die_at=2), scales=itertools.repeat(1.0), minutes=0.5)
        assert 0 < _elapsed_s(tmp_path / "2") < 30
        meta = json.loads((tmp_path / "2" / META_FILE).read_text())
        (tmp_path / "2" / META_FILE).write_text(json.dumps(meta | {"elapsed_s": elapsed_s}))
        return tmp_path / "2"

    return make


def test_time_before_an_interruption_counts(tmp_path, interrupted):
    """Half a second is left of half a minute."""
    phase, reports, checkpoint = _OneWeight(rate=RATE), _Reports(tmp_path), interrupted(29.5)
    clock = Clock(5)
    options = {"minutes": 0.5, "resume_from": checkpoint, "checkpoint_every_steps": 1_000_000}
    _train_one_weight(phase, reports, scales=itertools.repeat(1.0), **options)
    assert clock.elapsed_s < 20
    (last,) = reports.metrics
    assert last["step"] == 2 + len(phase.weights)
    assert 30 <= _elapsed_s(tmp_path / f"{int(last['step'])}") < 50
    steps = np.abs(np.diff([*phase.weights, phase.weight.item()]))
    assert steps.max() < 0.01 * RATE  # so near the end that the learning rate is all but zero


def test_a_phase_whose_minutes_were_over_takes_no_step(tmp_path, interrupted):
    phase, reports = _OneWeight(rate=RATE), _Reports(tmp_path)
    options = {"minutes": 0.5, "resume_from": interrupted(30.0)}
    trained = _train_one_weight(phase, reports, scales=itertools.repeat(1.0), **options)
    assert reports.metrics == phase.weights == []
    assert trained.weight.item() > 0  # the average that was in the checkpoint


# --- the three phases -------------------------------------------------------------------------------------------------


def _run(name, manifest, report, *, resume_from=None, num_steps=5, **training):
    settings = tiny_settings(**{name: PhaseConfig(num_steps)}, **training)
    torch.manual_seed(0)
    model = LTDiff(settings.model)
    phase = PHASES[name](model, settings)
    items = make_items(manifest, split="train", pairs=phase.uses_pairs)
    loader = PatchLoader(items, settings.training.patch_size, 0, KernelMatcher(model.kernel_match))

    def load(ids):
        return {key: torch.from_numpy(values) for key, values in loader({"id": ids}).items()}

    def batches(first_step):
        for step in range(first_step, num_steps):
            yield load(np.array([2 * step, 2 * step + 1]))

    phase.prepare(lambda num: load(np.arange(num)))

    return train(
        phase,
        name=name,
        config=settings.training,
        batches=batches,
        validation=lambda: iter(()),
        context=local_context(report),
        resume_from=resume_from,
    )


def _hashes(folder):
    """Of weights, their average and the optimizer; the description beside them says how long it took."""
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
    assert len(hashes) == 3
    return hashes


@pytest.mark.parametrize("name", [name for name in PHASES if PHASES[name].num_uses == 1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, manifest_path, name, precision):
    manifest = read_manifest(manifest_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = _run(name, manifest, _Reports(whole), precision=precision)
    with pytest.raises(_Killed):
        _run(name, manifest, _Reports(broken, die_at=2), precision=precision)
    resumed = _run(name, manifest, _Reports(broken), resume_from=broken / "2", precision=precision)
    assert _hashes(broken / "5") == _hashes(whole / "5")
    torch.testing.assert_close(resumed.state_dict(), finished.state_dict(), rtol=0, atol=0)
    assert _hashes(whole / "2") != _hashes(whole / "5")


@pytest.mark.parametrize("name", PHASES)
def test_a_batch_computed_in_parts_is_the_same_batch(tmp_path, manifest_path, name):
    """But for rounding, and in phase 1 for the moments of the latents, which are tracked for each part."""
    manifest = read_manifest(manifest_path)
    whole, in_parts = _Reports(tmp_path / "whole"), _Reports(tmp_path / "parts")
    at_once = _run(name, manifest, whole).state_dict()
    parts = _run(name, manifest, in_parts, gradient_accumulation_steps=2).state_dict()
    for key, value in at_once.items():
        if "scaling" not in key:
            torch.testing.assert_close(parts[key], value, rtol=1e-3, atol=1e-5)
    assert [m["loss"] for m in in_parts.metrics] == pytest.approx([m["loss"] for m in whole.metrics], rel=1e-4)


@pytest.fixture
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("name", ["ddpm", "joint"])
def test_halves_beside_each_other_are_the_same_batch(tmp_path, manifest_path, name):
    """But for rounding; and again the same bits."""
    manifest = read_manifest(manifest_path)
    halves, again, parts = (_Reports(tmp_path / which) for which in ("halves", "again", "parts"))
    beside = _run(name, manifest, halves).state_dict()
    _run(name, manifest, again)
    one_by_one = _run(name, manifest, parts, gradient_accumulation_steps=2).state_dict()
    torch.testing.assert_close(beside, one_by_one, rtol=1e-3, atol=1e-5)
    assert _hashes(tmp_path / "halves" / "5") == _hashes(tmp_path / "again" / "5")
    assert [m["loss"] for m in halves.metrics] == pytest.approx([m["loss"] for m in parts.metrics], rel=1e-4)


def test_resuming_after_the_last_step_does_nothing(tmp_path, manifest_path):
    manifest = read_manifest(manifest_path)
    finished = _run("ddpm", manifest, _Reports(tmp_path))
    again = _Reports(tmp_path)
    resumed = _run("ddpm", manifest, again, resume_from=tmp_path / "5")
    assert again.metrics == []
    torch.testing.assert_close(resumed.state_dict(), finished.state_dict(), rtol=0, atol=0)


def test_another_seed_goes_another_way(tmp_path, manifest_path):
    manifest = read_manifest(manifest_path)
    first, other = (_run("ddpm", manifest, lambda *_: None, seed=seed) for seed in (0, 1))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(first.state_dict(), other.state_dict())
