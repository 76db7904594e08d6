"""Phase 4: the diffusion of what A' leaves over of B, on top of the fixed networks."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ltdiff.data.network_inputs import to_hu
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.standardizer import convert
from ltdiff.model.ltdiff import LTDiff
from ltdiff.model.residual_flow import MAX_RESIDUAL, flow_condition, on_arc
from ltdiff.model.residual_noise import ResidualNoiseModel, fit_residual_noise
from ltdiff.training.config import Settings
from ltdiff.training.phase import Batch, BatchNoise, Phase, to_input, to_position_mm, train_only

NUM_FITTED = 128
"""Patches whose residuals give σ and the spectrum of the noise."""
CHUNK = 16
"""Patches whose A' is made at a time."""
NUM_TURNS, NUM_PARTS = 2, 4
"""A batch is used that often, in quarters: to make its A' costs as much as five steps with a quarter."""
MEAN = "mean"
"""A' (B, H, W) in HU, among the images of a batch."""


class ResidualPhase(Phase):
    """Phase 4: flow matching from Gaussian noise to (B − A')/σ; σ and the noise's spectrum are those of training patches.

    Residuals of slices that the networks have seen are smaller than of others, but of the same texture: σ of other slices
    takes the place of these when a model is calibrated.
    """

    num_uses = NUM_TURNS * NUM_PARTS

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__()
        self.config = settings.training.residual
        self.model = train_only(model, "residual_flow")
        self.procedure = Procedure(settings.diffusion, settings.loss.decode)
        self.sampler = self.procedure.make_sampler()
        self.residual_noise: ResidualNoiseModel | None = None
        low, high = (float(value) for value in model.kernel_match.range_hu)
        self.range_hu = low, high

    @override
    def prepare(self, sample: Callable[[int], Batch]) -> None:
        batch = sample(NUM_FITTED)
        means = torch.cat(
            [
                self.mean({name: values[first : first + CHUNK] for name, values in batch.items()})
                for first in range(0, NUM_FITTED, CHUNK)
            ]
        )
        targets = batch["target"].float()
        self.residual_noise = fit_residual_noise(
            list(means[:, 0].cpu().numpy()), list(targets.cpu().numpy()), range_hu=self.range_hu
        )

    @torch.no_grad()
    def mean(self, batch: Batch) -> Tensor:
        """A' (B, 1, H, W) in whole HU, as it is standardized."""
        x, generator = to_input(batch["source"]), torch.Generator().manual_seed(0)
        made = convert(self.model, x, to_position_mm(batch), procedure=self.procedure, sampler=self.sampler, generator=generator)
        return to_hu(made).round().clamp(*self.range_hu)

    @override
    def feed(self, batch: Batch) -> Iterator[Batch]:
        whole = {**batch, MEAN: self.mean(batch)[:, 0]}
        height, width = (side // 2 for side in whole[MEAN].shape[1:])
        for turn in range(NUM_TURNS * NUM_PARTS):
            top, left = height * (turn % NUM_PARTS // 2), width * (turn % 2)
            yield {name: values[:, top : top + height, left : left + width] for name, values in whole.items()}

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        assert self.residual_noise is not None, "the phase was not prepared"
        mean = batch[MEAN][:, None] if MEAN in batch else self.mean(batch)
        matched, target = (batch[name].float()[:, None] for name in ("source", "target"))
        whitening = np.stack([self.residual_noise.whitening(hu) for hu in mean[:, 0].cpu().numpy()])
        sigma = torch.from_numpy(whitening)[:, None].to(mean)
        residual = ((target - mean) / sigma).clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
        is_open = ((mean > self.range_hu[0]) & (mean < self.range_hu[1])).float()
        white, t = noise.like(residual).cpu().numpy(), noise.uniform().to(mean.device)
        r_t, velocity = on_arc(residual, torch.from_numpy(self.residual_noise.texture(white)).to(residual), t)
        found = self.model.residual_flow(r_t, flow_condition(mean, sigma, matched), t)
        return {"loss": (is_open * (found - velocity).square()).mean()}
