"""Comparators whose network makes an image of an image: how they are applied to slices. How they are trained: `trained`."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from ltdiff.data.network_inputs import to_hu, to_network
from ltdiff.inference.method import Slices
from ltdiff.methods.timed_training import TrainedComparator
from ltdiff.model.precision import autocast


class ImageComparator(TrainedComparator):
    """One whose network makes an image of an image. Subclasses name its use."""

    size_divisor = 1
    """Sides of what `convert` gets are multiples of this."""

    @abstractmethod
    def convert(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A' (1, 1, H, W) of Ã or A, in network units."""

    @torch.inference_mode()
    @override
    def standardize(self, hu: Slices, spacing_mm: tuple[float, float], *, first_slice: int = 0) -> Slices:
        result = np.empty(hu.shape, np.float32)
        low, high = self.range_hu
        for i, image in enumerate(hu):
            generator = torch.Generator().manual_seed(first_slice + i)
            source = torch.from_numpy(image.astype(np.float32))[None]
            matched = self.kernel_match(source, spacing_mm) if self.uses_kernel_match else source
            height, width = image.shape
            padding = (0, -width % self.size_divisor, 0, -height % self.size_divisor)
            x = functional.pad(to_network(matched)[:, None], padding, mode="replicate").to(self.device)
            with autocast(self.budget.training.precision, self.device):
                converted = self.convert(x.contiguous(memory_format=torch.channels_last), generator)
            result[i] = to_hu(converted[0, 0, :height, :width].float()).round().clamp(low, high).cpu().numpy()
        return result
