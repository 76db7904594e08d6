"""What all trained comparators share, on a network of one weight: its loss is (weight − 3)², whatever the images are."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import SPACING_MM, few_validation_patches, make_rows, make_volumes, save_volume, write_pairs  # noqa: F401
from torch import nn

from ltdiff.data.manifest import read_manifest
from ltdiff.methods.image_network import ImageNetwork, PhaseSchedule
from ltdiff.methods.linear import Linear
from ltdiff.training import phase_training
from ltdiff.training.checkpoint import META_FILE
from ltdiff.training.phase import Phase

IN_PLANE_MM = SPACING_MM[1:]
TOO_HIGH, NOT_FINITE = 1e8, 7.0


class _Killed(BaseException):
    """Stands for kill −9: nothing catches it."""


class _OneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


class _Notes:
    """What a phase was given: its weight before each step, and its batches. Shared with its moving average."""

    def __init__(self):
        self.weights, self.trained_on, self.validated_on = [], [], []

    def __deepcopy__(self, memo):
        return self


class _Phase(Phase):
    """Dies, like a killed process, in its `die_at`-th step. On validation slices the loss is (weight − `best`)²."""

    def __init__(self, model, config, *, die_at=None, best=3):
        super().__init__()
        self.model, self.config, self.die_at, self.best = model, config, die_at, best
        self.notes = _Notes()

    def forward(self, batch, noise):
        (self.notes.trained_on if self.training else self.notes.validated_on).append(batch)
        if self.training:
            self.notes.weights.append(self.model.weight.item())
            if len(self.notes.weights) == self.die_at:
                raise _Killed
        loss = (self.model.weight - (3 if self.training else self.best)).square()
        return {"loss": loss * torch.nan if self.training and self.config.learning_rate == NOT_FINITE else loss}


class _Comparator(ImageNetwork):
    """A' = x + weight; its phases are kept in `phases`, in the order in which they were made."""

    make_network = _OneWeight

    def __init__(self, training, *, shares=(1.0,), die_in=None, die_at=4, best=3):
        super().__init__(training)
        self.shares, self.die_in, self.die_at, self.best = shares, die_in, die_at, best
        self.phases, self.given = [], []

    def schedules(self):
        return [PhaseSchedule(f"phase {i}", share, self._make) for i, share in enumerate(self.shares)]

    def _make(self, config):
        die_at = self.die_at if self.die_in == len(self.phases) else None
        self.phases.append(_Phase(self.network, config, die_at=die_at, best=self.best))
        return self.phases[-1]

    def convert(self, x, generator):
        self.given.append(x)
        return x + self.network.weight


def _weights(method):
    return [weight for phase in method.phases for weight in phase.notes.weights]


def _read(folder, name):
    return json.loads((folder / name).read_text())


# --- one phase --------------------------------------------------------------------------------------------------------


def test_a_fit_leaves_its_result_and_what_it_cost(tmp_path, manifest, make_training):
    method = _Comparator(make_training(minutes=0.004))
    method.fit(manifest, folder=tmp_path / "fit")
    assert {path.name for path in (tmp_path / "fit").iterdir()} == {"run.json", "phase 0"}
    files = {"metrics.jsonl", "result.json", "result.safetensors"}
    assert {path.name for path in (tmp_path / "fit" / "phase 0").iterdir()} == files
    (phase,) = method.phases
    result = _read(tmp_path / "fit", "phase 0/result.json")
    assert result["learning_rate"] == phase.config.learning_rate == 1e-2
    assert result["minutes"] == 0.004
    assert result["step"] == len(phase.notes.weights) > 0
    assert result["val_loss"] == pytest.approx((method.network.weight.item() - 3) ** 2)
    kept = load_file(tmp_path / "fit" / "phase 0" / "result.safetensors")
    assert {key: value.item() for key, value in kept.items()} == {"weight": method.network.weight.item()}


def test_the_result_is_the_checkpoint_that_is_best_on_the_validation_slices(tmp_path, manifest, make_training):
    method = _Comparator(make_training(minutes=0.01, checkpoint_every_steps=1), best=0)  # every step makes it worse
    method.fit(manifest, folder=tmp_path)
    result = _read(tmp_path, "phase 0/result.json")
    assert result["step"] == 1 < len(_weights(method))
    assert result["val_loss"] == pytest.approx(method.network.weight.item() ** 2)


def test_the_images_come_of_their_splits(tmp_path, make_training):
    """Every slice has a level of its own; the kernel match undoes the source's factor of two."""
    hu = -500 + 100 * np.arange(6)[:, None, None] + np.random.default_rng(0).normal(0, 10, (6, 48, 48)).round()
    manifest = read_manifest(write_pairs(tmp_path, volumes=(2 * hu, hu)))
    method = _Comparator(make_training())
    method.fit(manifest, folder=tmp_path / "fit")
    (phase,) = method.phases
    for batches, slices in ((phase.notes.trained_on, {0, 1, 2, 3}), (phase.notes.validated_on, {4})):
        levels = {round(float(image.float().mean()) / 100) + 5 for batch in batches for image in batch["target"]}
        assert levels <= slices
        for batch in batches:
            assert batch["target"].shape == (2, 16, 16)
            assert (batch["source"] - batch["target"]).abs().max() <= 1


def test_a_method_may_do_without_the_kernel_match(tmp_path, source, make_training):
    class Unmatched(_Comparator):
        uses_kernel_match = False

    hu = make_volumes()[1].clip(-700)  # twice as much is no padding yet
    manifest = read_manifest(write_pairs(tmp_path, volumes=(2 * hu, hu)))
    method = Unmatched(make_training())
    method.fit(manifest, folder=tmp_path / "fit")
    assert all((batch["source"] == 2 * batch["target"]).all() for batch in method.phases[0].notes.trained_on)
    with torch.no_grad():
        method.network.weight.zero_()
    np.testing.assert_array_equal(method.standardize(source, IN_PLANE_MM), source.clip(-700))


def test_a_single_slice_is_enough(tmp_path, make_training):
    hu = make_volumes(num_slices=1)[1]
    rows = [make_rows(save_volume(hu, tmp_path / f"{role}.nrrd"), shape=hu.shape, role=role) for role in ("source", "target")]
    method = _Comparator(make_training())
    method.fit(pd.concat(rows), folder=tmp_path / "fit")
    assert method.phases[0].notes.validated_on


# --- learning rates ---------------------------------------------------------------------------------------------------


def test_the_rate_with_the_lowest_validation_loss_is_taken(tmp_path, manifest, make_training, monkeypatch):
    """One is too low to get anywhere, one goes far beyond, one has no gradient; all start from the same weights."""
    monkeypatch.setattr(phase_training, "TRIAL_SHARE", 0.5)
    monkeypatch.setattr(phase_training, "MIN_TRIAL_MINUTES", 0.0)
    given, train = [], phase_training.train
    monkeypatch.setattr(phase_training, "train", lambda *args, **o: given.append(o["minutes"]) or train(*args, **o))
    rates = (NOT_FINITE, 1e-6, 1e-1, TOO_HIGH)
    method = _Comparator(make_training(minutes=0.01, learning_rates=rates))
    method.fit(manifest, folder=tmp_path)
    *trials, final = method.phases
    assert [phase.config.learning_rate for phase in trials] == list(rates)
    assert final.config.learning_rate == 1e-1
    assert given == pytest.approx([0.5 * 0.01] * 4 + [0.01])
    assert [path.name for path in tmp_path.iterdir() if "rate" in path.name] == []  # what trials left is gone
    assert [phase.notes.weights[0] for phase in method.phases] == [0.0] * 5
    losses = {float(rate): loss for rate, loss in _read(tmp_path, "phase 0/rates.json").items()}
    assert losses[NOT_FINITE] is None
    assert losses[1e-1] < losses[1e-6] == pytest.approx(9, abs=0.01)
    assert losses[TOO_HIGH] is None or losses[TOO_HIGH] > 9  # None where it went beyond all numbers
    assert _read(tmp_path, "phase 0/result.json")["learning_rate"] == 1e-1


def test_trials_that_were_done_before_an_interruption_are_not_repeated(tmp_path, manifest, make_training):
    training = make_training(learning_rates=(1e-1, 1e-6, 1e-5))
    with pytest.raises(_Killed):
        _Comparator(training, die_in=1, die_at=1).fit(manifest, folder=tmp_path)
    method = _Comparator(training)
    method.fit(manifest, folder=tmp_path)
    assert [phase.config.learning_rate for phase in method.phases[:-1]] == [1e-6, 1e-5]
    assert set(_read(tmp_path, "phase 0/rates.json")) == {"0.1", "1e-06", "1e-05"}


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path, manifest, make_training):
    training = make_training(minutes=0.5, learning_rates=(1e-6, 1e-2), checkpoint_every_steps=1)  # trials of 1.5 s
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_training, "MIN_TRIAL_MINUTES", 0.0)
        first, second = _Comparator(training, die_in=1, die_at=2), _Comparator(training, die_in=1, die_at=1)
        for method in (first, second):
            with pytest.raises(_Killed):
                method.fit(manifest, folder=tmp_path)
    assert [phase.config.learning_rate for phase in second.phases] == [1e-2, 1e-2]  # the second trial, then all of it
    assert second.phases[0].notes.weights[0] == first.phases[1].notes.weights[1] > 0
    assert second.phases[1].notes.weights[0] == 0


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path, manifest, make_training):
    """(folder, training, weights before each step) of a fit that was killed in its fourth step, after a checkpoint at two."""
    training = make_training(minutes=0.5, checkpoint_every_steps=2)
    method = _Comparator(training, die_in=0)
    with pytest.raises(_Killed):
        method.fit(manifest, folder=tmp_path / "fit")
    return tmp_path / "fit", training, _weights(method)


def _set_elapsed(folder, elapsed_s):
    """What the checkpoint says of the time until it."""
    path = folder / "phase 0" / "checkpoints" / "step_00000002" / META_FILE
    meta = json.loads(path.read_text())
    assert 0 < meta["elapsed_s"] < 30
    path.write_text(json.dumps(meta | {"elapsed_s": elapsed_s}))


def test_an_interrupted_fit_goes_on_from_its_checkpoint(interrupted, manifest):
    folder, training, before = interrupted
    _set_elapsed(folder, 29.5)  # of thirty seconds
    (folder / "phase 0" / "checkpoints" / ".step_00000004.partial").mkdir()  # and it died while it wrote another
    method = _Comparator(training)
    method.fit(manifest, folder=folder)
    after = _weights(method)
    assert after[0] == before[2]
    assert _read(folder, "phase 0/result.json")["step"] == 2 + len(after)
    assert max(np.abs(np.diff(after)), default=0) < 0.01 * 1e-2  # near its end: the elapsed time counts
    assert not list((folder / "phase 0").glob("*checkpoint*"))


def test_a_fit_whose_minutes_are_over_takes_no_step(interrupted, manifest):
    folder, training, _ = interrupted
    _set_elapsed(folder, 30.0)
    averaged = load_file(folder / "phase 0" / "checkpoints" / "step_00000002" / "averaged.safetensors")["module.model.weight"]
    method = _Comparator(training)
    method.fit(manifest, folder=folder)
    assert _weights(method) == []
    assert method.network.weight.item() == averaged.item() != 0


def test_a_finished_fit_is_read(tmp_path, manifest, source, make_training):
    first, second = (_Comparator(make_training(learning_rates=(1e-1, 1e-2))) for _ in range(2))
    first.fit(manifest, folder=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second.fit(manifest, folder=tmp_path)
    assert second.phases == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    results = [method.standardize(source, IN_PLANE_MM) for method in (first, second)]
    np.testing.assert_array_equal(*results)


def test_phases_follow_each_other_and_share_the_minutes(tmp_path, manifest, make_training):
    training = make_training(minutes=0.02)
    with pytest.raises(_Killed):
        _Comparator(training, shares=(0.25, 0.75), die_in=1, die_at=1).fit(manifest, folder=tmp_path)
    first_result = (tmp_path / "phase 0" / "result.safetensors").read_bytes()
    method = _Comparator(training, shares=(0.25, 0.75))
    method.fit(manifest, folder=tmp_path)
    (phase,) = method.phases  # the first was done
    assert phase.notes.weights[0] == load_file(tmp_path / "phase 0" / "result.safetensors")["weight"].item() > 0
    minutes = [_read(tmp_path, f"phase {i}/result.json")["minutes"] for i in range(2)]
    assert minutes == pytest.approx([0.005, 0.015])
    assert (tmp_path / "phase 0" / "result.safetensors").read_bytes() == first_result


class _Other(_Comparator):
    """Another method with the same settings."""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"training": {"minutes": 0.006}}, r"training\.minutes was 0\.005, now 0\.006"),
        ({"training": {"seed": 3}}, r"training\.seed was 0, now 3"),
        ({"method": _Other}, "method was '_Comparator', now '_Other'"),
        ({"num_slices": 5}, "data_fingerprint was '[0-9a-f]{64}', now"),
    ],
    ids=["minutes", "seed", "method", "data"],
)
def test_another_setting_or_other_data_are_refused_by_name(tmp_path, manifest, make_training, change, named):
    _Comparator(make_training()).fit(manifest, folder=tmp_path / "mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = change.get("method", _Comparator)(make_training(**change.get("training", {})))
    rows = manifest[manifest["slice_index"] < change.get("num_slices", 6)]
    with pytest.raises(ValueError, match=rf"mine holds work with other settings or data \({named}.*or another folder"):
        other.fit(rows, folder=tmp_path / "mine")
    assert other.phases == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# --- use --------------------------------------------------------------------------------------------------------------


def test_images_are_extended_for_the_network_and_cut_back(manifest, source, make_training):
    class Coarse(_Comparator):
        size_divisor = 16

    linear, method = Linear(), Coarse(make_training())
    linear.fit(manifest)
    method.kernel_match = linear.kernel_match
    result = method.standardize(source, IN_PLANE_MM)
    assert [x.shape for x in method.given] == [(1, 1, 48, 64)] * 2
    np.testing.assert_allclose(result, linear.standardize(source, IN_PLANE_MM), atol=1)


def test_there_are_no_variants_unless_a_method_has_some(make_training):
    assert _Comparator(make_training()).variants() == {}
