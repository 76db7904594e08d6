"""Losses: worked values, and the image that makes each smallest."""

import math

import pytest
import torch

from ltdiff.data.network_inputs import SCALE_HU, to_hu, to_network
from ltdiff.training.losses import CHARBONNIER_EPSILON, bce_dice, charbonnier, supervise


def _image(*hu):
    return to_network(torch.tensor(hu, dtype=torch.float64).float()).view(1, 1, 1, -1)


LUNG_AND_TISSUE = _image(-850.0, -870.0, 40.0, 55.0, -1024.0, 900.0)


def test_charbonnier_is_linear_far_away_and_quadratic_near():
    assert pytest.approx(5 / SCALE_HU) == CHARBONNIER_EPSILON
    assert charbonnier(_image(0.0), _image(500.0)).item() == pytest.approx(math.sqrt(1 + 1e-4) - 1e-2, rel=1e-5)
    assert charbonnier(_image(0.0), _image(0.5)).item() == pytest.approx(0.001**2 / (2 * 0.01), rel=1e-2)
    assert charbonnier(LUNG_AND_TISSUE, LUNG_AND_TISSUE).item() == 0


def test_bce_dice_of_a_worked_example():
    """p = ½ and ¼, y = ½ and ½: ½·BCE = ½·(ln 2 + ½ ln(16/3))/2, Dice = 2·(¼ + ⅛)/(¼ + 1/16 + ½)."""
    p, y = (_image(*(-1024 + 4095 * fraction for fraction in fractions)) for fractions in ((0.5, 0.25), (0.5, 0.5)))
    cross_entropy = (math.log(2) + 0.5 * math.log(16 / 3)) / 2
    expected = 0.5 * cross_entropy + 1 - 0.75 / 0.8125
    assert bce_dice(p, y).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [charbonnier, bce_dice])
def test_the_best_image_is_the_target(loss):
    prediction = (LUNG_AND_TISSUE + 0.1).requires_grad_()
    optimizer = torch.optim.Adam([prediction], lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss(prediction, LUNG_AND_TISSUE).backward()
        optimizer.step()
    best_hu = to_hu(prediction.detach()).clamp(min=-1024)  # below, bce_dice sees no difference
    torch.testing.assert_close(best_hu, to_hu(LUNG_AND_TISSUE), rtol=0, atol=5)


@pytest.mark.parametrize("loss", [charbonnier, bce_dice])
def test_losses_stay_in_float32_under_autocast(loss):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(LUNG_AND_TISSUE + 0.1, LUNG_AND_TISSUE)
    assert inside.dtype == torch.float32
    assert inside.item() == pytest.approx(loss(LUNG_AND_TISSUE + 0.1, LUNG_AND_TISSUE).item())


@pytest.mark.parametrize("hu", [-3024.0, 20_000.0])
def test_bce_dice_takes_values_outside_the_stored_range(hu):
    assert math.isfinite(bce_dice(_image(hu, 0.0), _image(0.0, hu)).item())


def test_deep_supervision_is_the_weighted_mean_over_the_heads():
    heads = [LUNG_AND_TISSUE + shift for shift in (1.0, 0.0, 2.0)]
    losses = [charbonnier(head, LUNG_AND_TISSUE).item() for head in heads]
    found = supervise(charbonnier, heads, LUNG_AND_TISSUE, (0.5, 1.0, 2.5)).item()
    assert found == pytest.approx((0.5 * losses[0] + 2.5 * losses[2]) / 4)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        supervise(charbonnier, heads, LUNG_AND_TISSUE, (1.0,))
