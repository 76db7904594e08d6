"""The diffusion of the residual: what an untrained one draws, and that a trained one draws what it was shown."""

import pytest
import torch

from ltdiff.model.config import ResidualFlowConfig
from ltdiff.model.residual_flow import MAX_RESIDUAL, NUM_CONDITIONS, ResidualFlow, flow_condition, on_arc

TINY = ResidualFlowConfig(channels=8, num_blocks=1, embedding_size=8)


@pytest.fixture
def flow():
    torch.manual_seed(0)
    return ResidualFlow(TINY)


def test_an_untrained_flow_draws_its_noise(flow):
    noise, condition = torch.randn(2, 1, 16, 16), torch.randn(2, NUM_CONDITIONS, 16, 16)
    torch.testing.assert_close(flow.draw(noise, condition, num_steps=3), noise)


def test_an_untrained_flow_expects_nothing(flow):
    expected = flow.expect(torch.randn(2, NUM_CONDITIONS, 16, 16))
    torch.testing.assert_close(expected, torch.zeros(2, 1, 16, 16))


@pytest.mark.parametrize("shape", [(16, 16), (15, 17)])
def test_sides_may_be_odd(flow, shape):
    torch.nn.init.normal_(flow.leave.weight)
    drawn = flow.draw(torch.randn(1, 1, *shape), torch.randn(1, NUM_CONDITIONS, *shape), num_steps=1)
    assert drawn.shape == (1, 1, *shape)


def test_a_trained_flow_draws_what_it_was_shown(flow):
    """Residuals of two values, by the condition: neither is Gaussian."""
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        side = torch.randint(0, 2, (8, 1, 1, 1), generator=generator).float() * 2 - 1
        condition = side.expand(8, NUM_CONDITIONS, 8, 8)
        residual, noise = 1.5 * side.expand(8, 1, 8, 8), torch.randn(8, 1, 8, 8, generator=generator)
        t = torch.rand(8, generator=generator)
        r_t, velocity = on_arc(residual, noise, t)
        loss = (flow(r_t, condition, t) - velocity).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for side in (-1.0, 1.0):
        drawn = flow.draw(torch.randn(1, 1, 8, 8), torch.full((1, NUM_CONDITIONS, 8, 8), side), num_steps=8)
        assert drawn.mean().item() == pytest.approx(1.5 * side, abs=0.4)
        assert drawn.std() < 0.5
        expected = flow.expect(torch.full((1, NUM_CONDITIONS, 8, 8), side))
        assert expected.mean().item() == pytest.approx(1.5 * side, abs=1)
        assert expected.std() < 0.5


def test_conditions_are_bounded_and_about_as_large_as_each_other():
    mean, matched = torch.full((1, 1, 12, 12), -1000.0), torch.full((1, 1, 12, 12), -1000.0)
    mean[..., 6, 6] = 3000.0  # metal
    condition = flow_condition(mean, torch.full_like(mean, 0.5), matched)
    assert condition.shape == (1, NUM_CONDITIONS, 12, 12)
    assert condition.abs().max() <= MAX_RESIDUAL
    assert condition[0, 2, 6, 6] == MAX_RESIDUAL  # what the networks changed
    assert condition[0, 2].sum() == MAX_RESIDUAL


@pytest.mark.parametrize("bad", [{"channels": 0}, {"num_blocks": 0}, {"embedding_size": 1}])
def test_bad_shapes_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ResidualFlowConfig(**bad)
