"""The networks that are trained without pairs: who is taught by which term, and by which path a slice goes."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_run import SPACING_MM, make_rows, make_volumes, save_volume
from torch.nn import functional

from ltdiff.data.network_inputs import SCALE_HU, to_network
from ltdiff.methods import cyclegan
from ltdiff.methods.cyclegan import CycleGAN, CycleGANMethod, cycle_loss
from ltdiff.methods.image_network import NetworkPhase
from ltdiff.methods.multipath import Multipath, MultipathMethod
from ltdiff.methods.texture_distance import measure_texture, texture_distance
from ltdiff.training.config import PhaseConfig
from ltdiff.training.phase import BatchNoise, to_input

NETWORKS = {"cyclegan": (CycleGAN, "source"), "multipath": (Multipath, "source 0")}
every_network = pytest.mark.parametrize("name", NETWORKS)


def _model(name):
    """With last layers that are not zero, as after some training."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "leave" in key or "decoders" in key:
                value.normal_(0, 0.02)
    return model


def _batch(*names, num=2):
    hu = [torch.from_numpy(one[:num, :16, :16].astype(np.float32)) for one in make_volumes()]
    return {name: hu[number % 2] + 30 * (number // 2) for number, name in enumerate(names)}


def _loss(model, batch):
    return NetworkPhase(model, cycle_loss, PhaseConfig(num_steps=1))(batch, BatchNoise(0, range(2)))


def _gradients(model, loss, part):
    parameters = [value for key, value in model.named_parameters() if key.startswith("discriminators") == (part == "judges")]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)])


def _directions(name, model, batch):
    """(discriminator, real images, images made into such) for both directions."""
    source = NETWORKS[name][1]
    x = {side: to_input(batch[side]) for side in (source, "target")}
    pairs = ((source, "target"), ("target", source))
    return [(model.discriminators[goal], x[goal], model.convert(x[start], start=start, goal=goal)) for start, goal in pairs]


@every_network
def test_the_discriminators_learn_to_tell_and_the_generators_to_be_taken_for_real(name, monkeypatch):
    for weight in ("CYCLE_WEIGHT", "IDENTITY_WEIGHT"):
        monkeypatch.setattr(cyclegan, weight, 0.0)
    model, batch = _model(name), _batch(NETWORKS[name][1], "target")
    loss = _loss(model, batch)["loss"]
    tell = taken = 0.0
    for judge, real, made in _directions(name, model, batch):
        tell = tell + 0.5 * ((judge(real)[1] - 1).square().mean() + judge(made)[1].square().mean())
        taken = taken + (judge(made)[1] - 1).square().mean()
    assert loss.item() == pytest.approx((tell + taken).item(), rel=1e-5)
    for part, own in (("judges", tell), ("generators", taken)):
        gradient = _gradients(model, loss, part)
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, _gradients(model, own, part), rtol=1e-4, atol=1e-7)


@every_network
def test_the_cycle_and_identity_terms_teach_the_generators_alone(name, monkeypatch):
    model, source = _model(name), NETWORKS[name][1]
    batch = _batch(source, "target")
    whole = _loss(model, batch)
    monkeypatch.setattr(cyclegan, "CYCLE_WEIGHT", 0.0)
    monkeypatch.setattr(cyclegan, "IDENTITY_WEIGHT", 0.0)
    adversarial = _loss(model, batch)["loss"]
    x = {side: to_input(batch[side]) for side in batch}
    cycle = identity = 0.0
    for start, goal in ((source, "target"), ("target", source)):
        back = model.convert(model.convert(x[start], start=start, goal=goal), start=goal, goal=start)
        cycle = cycle + functional.l1_loss(back, x[start])
        identity = identity + functional.l1_loss(model.convert(x[goal], start=goal, goal=goal), x[goal])
    assert whole["cycle_loss"].item() == pytest.approx(cycle.item(), rel=1e-5)
    assert whole["identity_loss"].item() == pytest.approx(identity.item(), rel=1e-5)
    assert (whole["loss"] - adversarial).item() == pytest.approx((10 * cycle + 5 * identity).item() * SCALE_HU / 2048, rel=1e-4)
    torch.testing.assert_close(_gradients(model, whole["loss"], "judges"), _gradients(model, adversarial, "judges"))


@every_network
def test_before_training_nothing_is_changed(name):
    model, batch = NETWORKS[name][0](), _batch(NETWORKS[name][1], "target")
    losses = _loss(model, batch)
    assert losses["cycle_loss"] == losses["identity_loss"] == 0


@every_network
def test_validation_measures_the_distance_of_textures_and_no_pixels(name):
    model, source = _model(name), NETWORKS[name][1]
    batch = _batch(source, "target")
    phase = NetworkPhase(model, cycle_loss, PhaseConfig(num_steps=1)).eval()
    losses = phase(batch, BatchNoise(0, range(2)))
    made = model.convert(to_input(batch[source]), start=source, goal="target")
    assert set(losses) == {"loss"}
    expected = texture_distance(measure_texture(made), measure_texture(to_input(batch["target"])))
    torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close(phase(batch | {"target": batch["target"].flip(0)}, BatchNoise(0, range(2)))["loss"], expected)


def test_two_of_several_protocols_are_drawn_and_all_of_them_in_turn():
    names = ("source 0", "source 1", "target")
    torch.manual_seed(0)
    model, batch = Multipath(names), _batch(*names)
    drawn = set()
    for number in range(12):
        loss = cycle_loss(model.train(), batch, BatchNoise(0, [number]))["loss"]
        model.zero_grad()
        loss.backward()
        drawn.add(tuple(name for name in names if model.decoders[name].weight.grad is not None))
        again = cycle_loss(model, batch, BatchNoise(0, [number]))["loss"]
        assert again.item() == loss.item()
    assert drawn == {names[:2], names[1:], (names[0], names[2])}


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    """Slices of two source kernels and of the target, none of which shows the same as another: (manifest, smooth, sharp)."""
    folder = tmp_path_factory.mktemp("unpaired")
    sharp, target = (60 * np.random.default_rng(seed).standard_normal((6, 160, 160)) - 650 for seed in (0, 1))
    smooth, _ = make_volumes(size=160)
    kernels = {"smooth": (smooth, "source"), "sharp": (2 * sharp + 650, "source"), "standard": (target, "target")}
    rows = [
        make_rows(save_volume(hu.round(), folder / f"{kernel}.nrrd"), shape=hu.shape, role=role).assign(
            kernel=kernel, pair_id=None
        )
        for kernel, (hu, role) in kernels.items()
    ]
    return pd.concat(rows), smooth.round(), (2 * sharp + 650).round()


def test_a_slice_goes_in_by_the_path_of_its_kernel(tmp_path, unpaired, make_training):
    manifest, smooth, sharp = unpaired
    method = MultipathMethod(make_training())
    method.fit(manifest, folder=tmp_path)
    assert method.network.protocols == ("source 0", "source 1", "target")  # sharp, smooth: in alphabetical order
    for hu, path in ((sharp, "source 0"), (smooth, "source 1")):
        x = to_network(torch.from_numpy(hu[-1].astype(np.float32)))[None, None]
        assert method.find_path(x) == path
        assert method.standardize(hu[-1:].astype(np.float32), SPACING_MM[1:]).shape == hu[-1:].shape
    again = MultipathMethod(make_training())
    again.fit(manifest, folder=tmp_path)
    source = smooth[-2:].astype(np.float32)
    np.testing.assert_array_equal(*(one.standardize(source, SPACING_MM[1:]) for one in (method, again)))


def test_several_source_kernels_are_one_side_of_a_cyclegan(tmp_path, unpaired, make_training):
    method = CycleGANMethod(make_training())
    method.fit(unpaired[0], folder=tmp_path)
    assert set(method.network.generators) == {"source", "target"}
