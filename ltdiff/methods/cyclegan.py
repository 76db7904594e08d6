"""A CycleGAN (Zhu 2017): what is trained where nothing is paired, on slices of the two sides drawn independently of each other.

Generators G: A → B and F: B → A, a discriminator of patches for each side, the least-squares adversarial terms (Mao 2017), and
the terms that tie the output to the input: F(G(A)) = A and G(B) = B, and the same the other way round. As published, it starts
from the source itself. Given its best chance: the generators are small U-Nets that add a change, zero before training, so that
no time is spent on learning to copy. Both sides are trained in one backward pass, with the same optimizer as all other methods.

Without pairs no loss says how close an image is to its target. The result is the checkpoint after which the textures of A' and B
are nearest on the validation slices (`texture_distance`).
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.data.batch_loader import TARGET, Draw
from ltdiff.data.network_inputs import SCALE_HU
from ltdiff.methods.adversarial import SIZE_DIVISOR, Discriminator, Generator, judge_as_fixed, start_with_zeros
from ltdiff.methods.image_network import ImageNetwork
from ltdiff.methods.texture_distance import measure_texture, texture_distance
from ltdiff.training.phase import Batch, BatchNoise, to_input

CHANNELS = (16, 32, 48)
"""Half of STAN-CT's: a step takes six passes through a generator instead of one."""
CYCLE_WEIGHT = 10.0 * (SCALE_HU / 2048)
IDENTITY_WEIGHT = 0.5 * CYCLE_WEIGHT
"""λ = 10 and half of it, as published for images between −1 and 1: here −1024 and 3071 HU. With λ = 10 in network units, a change
as small as that of a kernel costs more than it gains: in 250 steps on A0001 the generators changed nothing."""
LEARNING_RATES = (1e-3,)
"""After the short trials of several rates a generator has hardly changed anything yet, and nothing tells them apart."""


class Translator(Protocol):
    """A network that turns images of one protocol into those of another, and has a discriminator for each."""

    discriminators: nn.ModuleDict
    training: bool

    def convert(self, x: Tensor, *, start: str, goal: str) -> Tensor:
        """Image (B, 1, H, W) of the protocol `start` → as if of the protocol `goal`."""


class CycleGAN(nn.Module):
    """A generator and a discriminator for each side; the generator of a side makes its images."""

    def __init__(self) -> None:
        super().__init__()
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for side in ("source", TARGET):
            generator = Generator(CHANNELS)
            start_with_zeros(generator.leave)
            self.generators[side], self.discriminators[side] = generator, Discriminator(1, CHANNELS)

    def convert(self, x: Tensor, *, start: str, goal: str) -> Tensor:
        """See `Translator`. Where both are the same, the generator should change nothing."""
        return x + self.generators[goal](x)


def cycle_loss(model: Translator, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
    """All terms of both directions between two protocols of the batch, drawn at random where there are more.

    `val_loss` is another figure: the distance of the textures of A' and B.
    """
    if not model.training:
        return {"loss": _distance_after(model, batch)}
    order = torch.randperm(len(batch), generator=noise.generators[0])
    first, second = (list(batch)[i] for i in order[:2])
    images = {name: to_input(batch[name]) for name in (first, second)}
    adversarial, cycle, identity = torch.stack(
        [_one_direction(model, images, start=start, goal=goal) for start, goal in ((first, second), (second, first))]
    ).sum(dim=0)
    loss = adversarial + CYCLE_WEIGHT * cycle + IDENTITY_WEIGHT * identity
    return {"loss": loss, "cycle_loss": cycle, "identity_loss": identity}


def _one_direction(model: Translator, images: dict[str, Tensor], *, start: str, goal: str) -> Tensor:
    """(adversarial, cycle, identity) terms (3,) of images of `start` made into images of `goal`."""
    discriminator = model.discriminators[goal]
    assert isinstance(discriminator, Discriminator)
    made = model.convert(images[start], start=start, goal=goal)
    _, taken_for = judge_as_fixed(discriminator, made)
    _, of_real = discriminator(images[goal])
    _, of_made = discriminator(made.detach())
    of_discriminator = 0.5 * ((of_real.float() - 1).square().mean() + of_made.float().square().mean())
    adversarial = (taken_for.float() - 1).square().mean() + of_discriminator
    cycle = functional.l1_loss(model.convert(made, start=goal, goal=start).float(), images[start])
    identity = functional.l1_loss(model.convert(images[goal], start=goal, goal=goal).float(), images[goal])
    return torch.stack([adversarial, cycle, identity])


def _distance_after(model: Translator, batch: Batch) -> Tensor:
    """Distance of the textures of images made of the sources and of real targets, a mean over the protocols."""
    target = measure_texture(to_input(batch[TARGET]))
    sources = {name: to_input(patches) for name, patches in batch.items() if name != TARGET}
    made = [model.convert(x, start=name, goal=TARGET) for name, x in sources.items()]
    return torch.stack([texture_distance(measure_texture(x), target) for x in made]).mean()


class CycleGANMethod(ImageNetwork):
    """G on the source itself."""

    make_network = CycleGAN
    phase_name, loss = "adversarial", staticmethod(cycle_loss)
    draw: Draw = "sides"
    uses_kernel_match = False
    learning_rates = LEARNING_RATES
    size_divisor = SIZE_DIVISOR

    @override
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.network.convert(x, start="source", goal=TARGET)
