"""The GAN's single backward pass: who descends and who ascends which term."""

import numpy as np
import pytest
import torch
from tiny_run import make_volumes
from torch.nn import functional

from ltdiff.methods import stan_ct
from ltdiff.methods.image_network import NetworkPhase
from ltdiff.methods.stan_ct import StanCT, adversarial_loss
from ltdiff.training.config import PhaseConfig
from ltdiff.training.phase import BatchNoise, to_input


@pytest.fixture(scope="module")
def batch():
    source, target = (torch.from_numpy(hu[:2, :16, :16].astype(np.float32)) for hu in make_volumes())
    return {"source": source, "target": target}


@pytest.fixture
def phase():
    torch.manual_seed(0)
    return NetworkPhase(StanCT(), adversarial_loss, PhaseConfig(num_steps=1))


def _weigh(monkeypatch, *, l1, latent):
    monkeypatch.setattr(stan_ct, "L1_WEIGHT", l1)
    monkeypatch.setattr(stan_ct, "LATENT_WEIGHT", latent)


def _gradients(phase, loss):
    """(of the generator, of the discriminator), each one vector; a parameter that the loss does not reach has zero."""

    def of(part):
        parameters = list(part.parameters())
        found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)])

    return of(phase.model.generator), of(phase.model.discriminator)


def _loss(phase, batch):
    return phase(batch, BatchNoise(0, range(len(batch["source"]))))["loss"]


def test_discriminator_and_generator_move_in_opposite_directions_of_the_adversarial_loss(phase, batch, monkeypatch):
    _weigh(monkeypatch, l1=0.0, latent=0.0)
    source, target = to_input(batch["source"]), to_input(batch["target"])
    _, real = phase.model.discriminator(source, target)
    _, made = phase.model.discriminator(source, phase.model.generator(source))
    hinge = functional.relu(1 - real).mean() + functional.relu(1 + made).mean()
    loss = _loss(phase, batch)
    assert loss.item() == pytest.approx(hinge.item())
    (generator, discriminator), (of_hinge, of_hinge_too) = _gradients(phase, loss), _gradients(phase, hinge)
    assert generator.abs().max() > 0
    torch.testing.assert_close(discriminator, of_hinge_too)
    torch.testing.assert_close(generator, -of_hinge)


def test_the_latent_term_teaches_the_generator_alone(phase, batch, monkeypatch):
    _weigh(monkeypatch, l1=0.0, latent=0.0)
    without = _loss(phase, batch)
    _weigh(monkeypatch, l1=0.0, latent=1.0)
    with_latent = _loss(phase, batch)
    source, target = to_input(batch["source"]), to_input(batch["target"])
    made_features, _ = phase.model.discriminator(source, phase.model.generator(source))
    real_features, _ = phase.model.discriminator(source, target)
    distance = functional.l1_loss(made_features, real_features)
    assert (with_latent - without).item() == pytest.approx(distance.item(), rel=1e-4)
    (generator, discriminator), (before, before_too) = _gradients(phase, with_latent), _gradients(phase, without)
    torch.testing.assert_close(discriminator, before_too)
    torch.testing.assert_close(generator - before, _gradients(phase, distance)[0], rtol=1e-4, atol=1e-7)


def test_the_pixel_term_teaches_the_generator_alone(phase, batch, monkeypatch):
    _weigh(monkeypatch, l1=0.0, latent=0.0)
    without = _loss(phase, batch)
    _weigh(monkeypatch, l1=100.0, latent=0.0)
    losses = phase(batch, BatchNoise(0, range(len(batch["source"]))))
    pixel = functional.l1_loss(phase.model.generator(to_input(batch["source"])), to_input(batch["target"]))
    assert losses["pixel_loss"].item() == pytest.approx(pixel.item())
    assert (losses["loss"] - without).item() == pytest.approx(100 * pixel.item(), rel=1e-4)
    torch.testing.assert_close(_gradients(phase, losses["loss"])[1], _gradients(phase, without)[1])


def test_validation_looks_at_the_pixels_alone(phase, batch):
    pixel = functional.l1_loss(phase.model.generator(to_input(batch["source"])), to_input(batch["target"]))
    losses = phase.eval()(batch, BatchNoise(0, range(len(batch["source"]))))
    assert set(losses) == {"loss"}
    assert losses["loss"].item() == pytest.approx(pixel.item())


def test_the_discriminator_judges_patches(phase, batch):
    source = to_input(batch["source"])
    features, verdict = phase.model.discriminator(source, source)
    assert features.shape == (2, 96, 2, 2)
    assert verdict.shape == (2, 1, 2, 2)
