"""The paper's three training phases behind one protocol: a module whose forward gives the loss of a batch.

1. `autoencoder`: encoder and decoder on all images, source and target and unpaired alike.
2. `ddpm`: the denoiser on pairs of latents, encoder and decoder fixed.
3. `joint`: denoiser and decoder on pairs: ‖Ẑ_0 − Z_B‖² + λ·ρ(A' − B), A' decoded from the one-step estimate Ẑ_0; the
   encoder is fixed and Z_B carries no gradient.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ltdiff.data.batch_loader import Draw
from ltdiff.data.network_inputs import to_hu, to_network
from ltdiff.data.patches import MakeSource, MatchKernel
from ltdiff.diffusion.process import Process, make_process
from ltdiff.model.latent import Latents
from ltdiff.model.ltdiff import LTDiff
from ltdiff.training.config import LossConfig, PhaseConfig, Settings, TrainingConfig

Network = TypeVar("Network", bound=nn.Module)
Batch = Mapping[str, Tensor]
"""Patches (B, H, W), int16. In HU: `image` in phase 1, `source` (kernel-matched) and `target` in phases 2 and 3. In mm: `y_mm`
and `x_mm`, the place of each pixel. Where protocols are drawn independently of each other (data/batch_loader): those of each."""
STORED_RANGE_HU = (-1024.0, 3071.0)
CHARBONNIER_EPSILON = float(to_network(5.0) - to_network(0.0))
"""5 HU: below it the loss is quadratic, so noise is averaged, not voted on."""

ImageLoss = Callable[[Tensor, Tensor], Tensor]
"""(prediction, target), images (B, 1, H, W) in network units"""


class BatchNoise:
    """Noise and diffusion times of a batch, a function of the seed and of each patch's number in the whole training.

    So those of a patch are the same however a batch is shared among workers or parts.
    """

    def __init__(self, seed: int, patches: Iterable[int]) -> None:
        self.generators = [torch.Generator().manual_seed((seed * 1_000_003 + patch) % 2**63) for patch in patches]

    def like(self, z: Tensor) -> Tensor:
        """Standard normal, of the shape (B, …) and on the device of `z`."""
        return torch.stack([torch.randn(z.shape[1:], generator=generator) for generator in self.generators]).to(z.device)

    def times(self, process: Process) -> Tensor:
        """One of the process's training times for each patch (B,)."""
        return torch.cat([process.sample_times(1, generator) for generator in self.generators])


class Phase(Protocol):
    """The part of a phase, an `nn.Module`, that the training loop uses."""

    config: PhaseConfig

    def __call__(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        """Losses by name; `loss` is the one that is minimized."""


@dataclass(frozen=True)
class PhaseTask:
    """A phase of `network` that is to be trained in its folder for so many steps or minutes.

    `make` makes the phase for a learning rate.
    """

    name: str
    network: nn.Module
    make: Callable[[float], Phase]
    draw: Draw
    match_kernel: MatchKernel
    make_source: MakeSource | None
    config: TrainingConfig
    folder: Path
    learning_rates: tuple[float, ...]
    minutes: float | None = None
    num_steps: int | None = None


class AutoencoderPhase(nn.Module):
    """Phase 1: reconstruct every image at every supervised head, and track the moments of the latents."""

    uses_pairs = False
    tracks_batches = True
    """Each forward pass moves the moments, in the order of the batches."""

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__()
        self.config = settings.training.autoencoder
        self.model = train_only(model, "encoder", "decoder")
        self.weights = settings.loss.supervision_weights
        self.image_loss = _image_loss(settings.loss)

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        x = to_input(batch["image"])
        latents, features = self.model.encoder(x)
        if self.training:
            self.model.scaling.track(latents)
        heads = self.model.decoder(latents, features, position_mm=to_position_mm(batch))
        return {"loss": supervise(self.image_loss, heads, x, self.weights)}


class DDPMPhase(nn.Module):
    """Phase 2: train the denoiser between the fixed latents of source and target."""

    uses_pairs = True

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__()
        self.config = settings.training.ddpm
        self.model = train_only(model, "denoiser")
        self.process = make_process(settings.diffusion)

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        return {"loss": self.diffuse(batch, noise).loss}

    def diffuse(self, batch: Batch, noise: BatchNoise) -> "_Diffused":
        """Noise Z_B to a random time, predict it back, and compare: one mean square for every level."""
        with torch.no_grad():
            source, features = self.model.encode(to_input(batch["source"]))
            target, _ = self.model.encode(to_input(batch["target"]))
        t = noise.times(self.process)
        eps = [noise.like(z) for z in target]
        z_t = [self.process.add_noise(z, source=a, t=t, eps=e) for z, a, e in zip(target, source, eps, strict=True)]
        outputs = self.model.denoise(z_t, source, self.process.unit_time(t).to(z_t[0].device))
        goals = [self.process.network_target(z, source=a, eps=e) for z, a, e in zip(target, source, eps, strict=True)]
        loss = torch.stack([functional.mse_loss(o.float(), g) for o, g in zip(outputs, goals, strict=True)]).mean()
        estimate = [
            self.process.predict_z0(o.float(), z_t=z, source=a, t=t) for o, z, a in zip(outputs, z_t, source, strict=True)
        ]
        return _Diffused(loss, estimate, source, features)


class JointPhase(DDPMPhase):
    """Phase 3: the diffusion's loss and the decoded image's, denoiser and decoder together."""

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__(model, settings)
        self.config = settings.training.joint
        train_only(model, "denoiser", "decoder")
        self.loss_config = settings.loss
        self.image_loss = _image_loss(settings.loss)

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        diffused = self.diffuse(batch, noise)
        image = self.image_term(diffused, batch)
        return {"loss": diffused.loss + self.loss_config.lambda_image * image, "latent_loss": diffused.loss, "image_loss": image}

    def image_term(self, diffused: "_Diffused", batch: Batch) -> Tensor:
        """ρ(A' − B) at every head. `residual` keeps a `direct` term, without which direct decoding would be unlearned."""
        weights, position_mm = self.loss_config.supervision_weights, to_position_mm(batch)
        source, target = to_input(batch["source"]), to_input(batch["target"])
        direct = self.model.decode(diffused.estimate, diffused.features, position_mm=position_mm)
        term = supervise(self.image_loss, direct, target, weights)
        if self.loss_config.decode == "direct":
            return term
        own = self.model.decode(diffused.source, diffused.features, position_mm=position_mm)
        residual = [source + d - o for d, o in zip(direct, own, strict=True)]
        return 0.5 * (term + supervise(self.image_loss, residual, target, weights))


PHASES: dict[str, type[AutoencoderPhase] | type[DDPMPhase] | type[JointPhase]] = {
    "autoencoder": AutoencoderPhase,
    "ddpm": DDPMPhase,
    "joint": JointPhase,
}
"""The phases in their order."""


class _Diffused(NamedTuple):
    loss: Tensor
    estimate: Latents
    source: Latents
    features: list[Tensor]


def train_only(model: Network, *parts: str) -> Network:
    """Freeze a network except for these parts; "" stands for the whole network."""
    model.requires_grad_(False)
    for part in parts:
        model.get_submodule(part).requires_grad_(True)
    return model


def to_input(hu: Tensor) -> Tensor:
    """Patches in HU (B, H, W) → (B, 1, H, W) in network units."""
    return to_network(hu.float())[:, None].contiguous(memory_format=torch.channels_last)


def to_position_mm(batch: Batch) -> Tensor:
    """Places of the patches' pixels (B, 2, H, W) in mm."""
    return torch.stack([batch["y_mm"], batch["x_mm"]], dim=1).float().contiguous(memory_format=torch.channels_last)


def _image_loss(config: LossConfig) -> ImageLoss:
    return charbonnier if config.reconstruction == "robust" else bce_dice


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """Robust regression: mean √((prediction − target)² + ε²) − ε."""
    squared = (prediction.float() - target).square()
    return ((squared + CHARBONNIER_EPSILON**2).sqrt() - CHARBONNIER_EPSILON).mean()


def bce_dice(prediction: Tensor, target: Tensor) -> Tensor:
    """The paper's loss: ½ binary cross-entropy + soft Dice loss, on intensities mapped from the stored range to [0, 1].

    The printed formula drops half of the cross-entropy and Dice's sums; both are restored here. Dice has the
    squares of Milletari 2016 below the line: with p + y, which is meant for masks, its best image is not the target (soft
    tissue would end above 1000 HU).
    """
    p, y = _to_unit_interval(prediction.float()), _to_unit_interval(target)
    dice = 2 * (p * y).sum(dim=(1, 2, 3)) / (p.square() + y.square()).sum(dim=(1, 2, 3))
    with torch.autocast(p.device.type, enabled=False):
        cross_entropy = functional.binary_cross_entropy(p, y)
    return 0.5 * cross_entropy + (1 - dice).mean()


def supervise(loss: ImageLoss, heads: Sequence[Tensor], target: Tensor, weights: Sequence[float]) -> Tensor:
    """Deep supervision: Σ_j w_j·loss(head_j, target) / Σ_j w_j."""
    total = sum((weight * loss(head, target) for weight, head in zip(weights, heads, strict=True)), start=torch.zeros(()))
    return total / sum(weights)


def _to_unit_interval(x: Tensor) -> Tensor:
    low, high = STORED_RANGE_HU
    return ((to_hu(x) - low) / (high - low)).clamp(1e-4, 1 - 1e-4)
