"""Images that B may be around A': the calibrated residual noise, given its real texture by the model's residual flow."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ltdiff.model.config import Precision
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.model.precision import autocast
from ltdiff.model.residual_flow import flow_condition
from ltdiff.model.residual_noise import Image, ResidualNoiseModel, read_residual_noise

NUM_STEPS = 2
"""Euler steps of the flow. Eight draw no better, once their spectrum is corrected (docs/notes/uncertainty.md)."""


@dataclass(frozen=True)
class ResidualSampler:
    """Draws around A', by the flow of `model` where its calibration found it to be of use, else by Gaussian noise alone."""

    noise: ResidualNoiseModel
    model: LTDiff | None = None
    precision: Precision = "auto"

    @classmethod
    def read(cls, folder: Path) -> "ResidualSampler":
        """That of a calibrated model folder.

        Raises:
            ValueError: it is not calibrated, or damaged.
        """
        noise = read_residual_noise(folder)
        return cls(noise, load_model(folder)[0].eval() if noise.flow_gain else None)

    def draw(self, mean: Image, matched: Image, *, seed: int, number: int) -> Image:
        """One image that B may be, (Y, X) in whole HU, for A' and Ã (Y, X), slice `number` of its series."""
        if self.model is None or not self.noise.flow_gain:
            return self.noise.draw(mean, seed=seed, number=number)
        drawn = self.noise.correct(self.draw_whitened(mean, matched, seed=seed, number=number))
        return self.noise.add(mean, self.noise.whitening(mean) * drawn)

    def draws(
        self,
        means: Sequence[Image],
        sources: Iterable[Image],
        spacings_mm: Iterable[Sequence[float]],
        *,
        numbers: Sequence[int],
        num: int,
        num_workers: int = 1,
    ) -> Iterator[list[Image]]:
        """`num` sets of images that B may be, of images A' and A (Y, X) with PixelSpacings (y, x); several at a time.

        The noise depends on the number of slice and draw alone.
        """
        matched = list(map(self.match, sources, spacings_mm))

        def draw(mean: Image, matched: Image, number: int, seed: int) -> Image:
            return self.draw(mean, matched, seed=seed, number=number)

        with ThreadPoolExecutor(num_workers) as pool:
            for seed in range(num):
                yield list(pool.map(draw, means, matched, numbers, repeat(seed)))

    @torch.inference_mode()
    def draw_whitened(self, mean: Image, matched: Image, *, seed: int, number: int) -> NDArray[np.float32]:
        """What the flow draws of (B − A')/σ, (Y, X), before its spectrum is corrected."""
        assert self.model is not None
        flow = self.model.residual_flow
        device = next(flow.parameters()).device
        mean_hu, sigma_hu, matched_hu, noise = (
            torch.from_numpy(np.asarray(values, np.float32))[None, None].to(device)
            for values in (mean, self.noise.whitening(mean), matched, self.noise.noise(mean.shape, seed=seed, number=number))
        )
        with autocast(self.precision, device):
            drawn = flow.draw(noise, flow_condition(mean_hu, sigma_hu, matched_hu), num_steps=NUM_STEPS)
        return drawn[0, 0].float().cpu().numpy()

    @torch.inference_mode()
    def match(self, source: Image, spacing_mm: Sequence[float]) -> Image:
        """Ã (Y, X) in whole HU of A (Y, X) with PixelSpacing (y, x); A itself where nothing is drawn with it."""
        if self.model is None:
            return source
        device = self.model.kernel_match.range_hu.device
        spacing = float(spacing_mm[0]), float(spacing_mm[1])
        return self.model.match_kernel(torch.from_numpy(source).to(device)[None], spacing)[0].round().cpu().numpy()
