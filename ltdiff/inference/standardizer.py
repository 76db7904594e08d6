"""Standardizing slices: pure torch, no files and no Ray. The target image plays no part in any of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ltdiff.data.manifest import evenly_spaced
from ltdiff.data.network_inputs import position_mm, to_hu, to_network
from ltdiff.diffusion.sampler import Sampler
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.procedure import Procedure
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.model.precision import autocast, resolve_precision
from ltdiff.model.residual_sampler import ResidualSampler
from ltdiff.physics.series_noise import NUM_SLICES

Image = NDArray[np.float32]


class Standardizer:
    """A trained model ready for use: `standardize(hu, spacing_mm)`."""

    def __init__(self, model: LTDiff, procedure: Procedure, *, device: torch.device | None = None) -> None:
        """The model is moved to `device`: a GPU where there is one, unless it is named."""
        self.procedure = procedure
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.precision = resolve_precision(procedure.inference.precision, self.device.type)
        procedure.check(num_levels=model.config.autoencoder.num_levels)
        self.sampler = procedure.make_sampler()
        residual = procedure.residual
        self.residual = None if residual is None else ResidualSampler(residual, self.model, self.precision)

    @classmethod
    def load(
        cls, folder: Path, inference: InferenceConfig = InferenceConfig(), *, device: torch.device | None = None
    ) -> "Standardizer":
        """The trained model in `folder` (written by training), ready for use on `device`.

        Raises:
            ValueError: no model there, or a damaged one; otherwise as `Procedure.read`.
        """
        model, _ = load_model(folder)
        return cls(model, Procedure.read(folder, inference), device=device)

    def with_procedure(self, procedure: Procedure) -> "Standardizer":
        """The same networks on the same device, used by another procedure."""
        return Standardizer(self.model, procedure, device=self.device)

    def used_otherwise(self, **changes: Any) -> "Standardizer":
        """The same networks on the same device, with these changes of the procedure."""
        return self.with_procedure(replace(self.procedure, **changes))

    def for_series(
        self, read_slice: Callable[[int], Image], *, num_slices: int, spacing_mm: tuple[float, float]
    ) -> "Standardizer":
        """The same for a series, some of whose slices (H, W) in HU with PixelSpacing (y, x) are read and tell its noise.

        It is itself where the model does not look at that, or where the noise of the series is its protocol's.

        Raises:
            ValueError: as `read_slice`.
        """
        if self.procedure.series_noise is None:
            return self
        chosen = evenly_spaced(num_slices, at_most=NUM_SLICES)
        noise_match = self.procedure.series_noise.match((read_slice(int(number)) for number in chosen), spacing_mm)
        return self if noise_match is None else self.used_otherwise(noise_match=noise_match)

    @torch.inference_mode()
    def standardize(
        self, hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, first_slice: int = 0
    ) -> NDArray[np.float32]:
        """A' in HU (Z, H, W) of source slices A (Z, H, W) with PixelSpacing (y, x), whole numbers as DICOM stores them.

        `first_slice` is the number of hu[0] in its series: the noise of a slice does not depend on how a series is cut up.
        Values are kept inside the range that the target series of the training pairs had.

        Raises:
            ValueError: another shape; or a value that is not finite, which the FFT would spread over its whole slice.
        """
        if hu.ndim != 3:
            raise ValueError(f"standardize needs slices of shape (Z, H, W), got {hu.shape}")
        result = np.empty(hu.shape, np.float32)
        for i, image in enumerate(hu):
            made, matched = self._convert_slice(image, spacing_mm, number=first_slice + i)
            if self.residual is None or self.procedure.is_match:
                result[i] = made
            elif self.procedure.output == "mean":
                result[i] = self.residual.mean(made, matched)
            else:
                seed = self.procedure.inference.seed
                result[i] = self.residual.draw(made, matched, seed=seed, number=first_slice + i)
        return result

    def samples(
        self,
        slices_hu: Sequence[Image] | Image,
        spacings_mm: Iterable[Sequence[float]],
        *,
        numbers: Sequence[int],
        num: int,
        num_workers: int = 1,
    ) -> Iterator[list[Image]]:
        """`num` sets of what B may be, (Y, X) each, as `SamplingMethod.samples`; of a calibrated model."""
        assert self.residual is not None, "the model is not calibrated"

        def convert(image: Image, spacing_mm: Sequence[float], number: int) -> tuple[Image, Image]:
            return self._convert_slice(image, (float(spacing_mm[0]), float(spacing_mm[1])), number=int(number))

        with ThreadPoolExecutor(num_workers) as pool:
            images, matched = zip(*pool.map(convert, slices_hu, spacings_mm, numbers), strict=True)
        yield from self.residual.draws(images, matched, numbers=numbers, num=num, num_workers=num_workers)

    @torch.inference_mode()
    def _convert_slice(self, image: Image, spacing_mm: tuple[float, float], *, number: int) -> tuple[Image, Image]:
        """A' as the networks, or the matches alone, make it of A (Y, X), and Ã; both in whole HU."""
        if not np.isfinite(image).all():
            raise ValueError(f"slice {number} holds values that are not finite")
        generator = torch.Generator().manual_seed(self.procedure.inference.seed * 1_000_003 + number)
        source = torch.from_numpy(image.astype(np.float32)).to(self.device)  # a copy: `image` may be read-only
        matched = self.model.match_kernel(source[None], spacing_mm)
        if self.procedure.is_match:
            made = self._match_noise(matched[0], image, spacing_mm)
        else:
            made = to_hu(self._convert(to_network(matched)[:, None], generator, spacing_mm))[0, 0]
        low, high = (float(value) for value in self.model.kernel_match.range_hu)
        return made.round().clamp(low, high).cpu().numpy(), matched[0].round().cpu().numpy()

    def _match_noise(self, matched: Tensor, image: NDArray[np.float32], spacing_mm: tuple[float, float]) -> Tensor:
        """Ã (H, W) in HU, where the target has another dose with its noise."""
        if self.procedure.noise_match is None:
            return matched
        return torch.from_numpy(self.procedure.noise_match(matched.cpu().numpy(), image, spacing_mm))

    def _convert(self, x: Tensor, generator: torch.Generator, spacing_mm: tuple[float, float]) -> Tensor:
        """Ã → A', (1, 1, H, W) in network units, any H and W, PixelSpacing (y, x)."""
        height, width = x.shape[-2:]
        divisor = self.model.config.autoencoder.size_divisor
        padding = (0, -width % divisor, 0, -height % divisor)
        padded = functional.pad(x, padding, mode="replicate").contiguous(memory_format=torch.channels_last)
        places_mm = torch.from_numpy(np.stack(position_mm((height, width), spacing_mm)))[None].to(x.device)
        places_mm = functional.pad(places_mm, padding, mode="replicate")
        with autocast(self.precision, self.device):
            converted = convert(
                self.model, padded, places_mm, procedure=self.procedure, sampler=self.sampler, generator=generator
            )
        return converted[..., :height, :width]


def convert(
    model: LTDiff, x: Tensor, places_mm: Tensor, *, procedure: Procedure, sampler: Sampler, generator: torch.Generator
) -> Tensor:
    """Ã → A', (B, 1, H, W) in network units, sides as the autoencoder takes them; places (B or 1, 2, H, W) in mm."""
    source, features = model.encode(x)
    latents = sampler.sample(lambda z_t, t: model.denoise(z_t, source, t.to(x.device)), source, generator=generator)
    depth = procedure.inference.decoder_depth
    decode = partial(model.decode, features=features, position_mm=places_mm, depth=depth)
    standardized = decode(latents)[-1].float()
    return standardized if procedure.decode == "direct" else x + standardized - decode(source)[-1].float()
