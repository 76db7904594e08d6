"""What B may be around A': its mean, and samples of it, by the calibrated residual noise and the model's residual flow."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltdiff.model.config import Precision
from ltdiff.model.ltdiff import LTDiff
from ltdiff.model.precision import autocast
from ltdiff.model.residual_flow import flow_condition
from ltdiff.model.residual_model import FlowUse, ResidualModel
from ltdiff.model.residual_noise import Image, apply_gain

NUM_STEPS = 2
"""Euler steps of the flow. Eight draw no better, once their spectrum is corrected (docs/notes/uncertainty.md)."""


@dataclass(frozen=True)
class ResidualSampler:
    """The mean and samples, from A' as the networks of `model` give it; without a flow of use the network is not needed."""

    residual: ResidualModel
    model: LTDiff | None = None
    precision: Precision = "auto"

    def mean(self, image: Image, matched: Image) -> Image:
        """The mean of what B may be, (Y, X) in whole HU, for A' and Ã (Y, X)."""
        flow = self.residual.flow
        if flow is None or not flow.mean_gain:
            return image
        expected = apply_gain(self.expect_whitened(image, matched), np.asarray(flow.mean_gain))
        return flow.noise.add(image, flow.noise.whitening(image) * expected)

    def draw(self, image: Image, matched: Image, *, seed: int, number: int) -> Image:
        """One image that B may be, (Y, X) in whole HU, for A' and Ã (Y, X), slice `number` of its series."""
        flow = self.residual.flow
        if flow is None or not flow.gain:
            return self.residual.noise.draw(self.mean(image, matched), seed=seed, number=number)
        drawn = apply_gain(self.draw_whitened(image, matched, seed=seed, number=number), np.asarray(flow.gain))
        return flow.noise.add(image, flow.noise.whitening(image) * drawn)

    def draws(
        self, images: Sequence[Image], matched: Sequence[Image], *, numbers: Sequence[int], num: int, num_workers: int = 1
    ) -> Iterator[list[Image]]:
        """`num` sets of images that B may be, of images A' and Ã (Y, X) with these numbers in their series; several at a time."""

        def draw(image: Image, matched: Image, number: int, seed: int) -> Image:
            return self.draw(image, matched, seed=seed, number=number)

        with ThreadPoolExecutor(num_workers) as pool:
            for seed in range(num):
                yield list(pool.map(draw, images, matched, numbers, repeat(seed)))

    @torch.inference_mode()
    def draw_whitened(self, image: Image, matched: Image, *, seed: int, number: int) -> NDArray[np.float32]:
        """What the flow draws of (B − A')/σ, (Y, X), before its spectrum is corrected."""
        model, flow = self._flow
        condition = self._condition(image, matched)
        noise = _to_tensor(flow.noise.noise(image.shape, seed=seed, number=number), condition.device)
        with autocast(self.precision, condition.device):
            drawn = model.residual_flow.draw(noise, condition, num_steps=NUM_STEPS)
        return drawn[0, 0].float().cpu().numpy()

    @torch.inference_mode()
    def expect_whitened(self, image: Image, matched: Image) -> NDArray[np.float32]:
        """The mean of (B − A')/σ, (Y, X), that the flow expects."""
        model, _ = self._flow
        condition = self._condition(image, matched)
        with autocast(self.precision, condition.device):
            expected = model.residual_flow.expect(condition)
        return expected[0, 0].float().cpu().numpy()

    @property
    def _flow(self) -> tuple[LTDiff, FlowUse]:
        assert self.model is not None, "there is no flow"
        assert self.residual.flow is not None, "the flow is of no use"
        return self.model, self.residual.flow

    def _condition(self, image: Image, matched: Image) -> Tensor:
        model, flow = self._flow
        device = next(model.residual_flow.parameters()).device
        return flow_condition(*(_to_tensor(values, device) for values in (image, flow.noise.whitening(image), matched)))


def _to_tensor(values: NDArray[np.floating], device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))[None, None].to(device)
