"""Standardizing slices: pure torch, no files and no Ray. The target image plays no part in any of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ltdiff.data.network_inputs import position_mm, to_hu, to_network
from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.diffusion.process import make_process
from ltdiff.diffusion.sampler import Latents, Sampler
from ltdiff.inference.config import InferenceConfig
from ltdiff.model.ltdiff import LTDiff, load_model
from ltdiff.model.precision import autocast, resolve_precision
from ltdiff.model.residual_noise import ResidualNoiseModel, read_output, read_residual_noise
from ltdiff.system.settings_tree import make_settings


class Standardizer:
    """A trained model ready for use: `standardize(hu, spacing_mm)`."""

    def __init__(
        self,
        model: LTDiff,
        *,
        diffusion: DiffusionConfig,
        decode: str,
        inference: InferenceConfig | None = None,
        residual_noise: ResidualNoiseModel | None = None,
        device: torch.device | None = None,
    ) -> None:
        """`diffusion` and `decode` are those that the model was trained with; samples need a `residual_noise`.

        The model is moved to `device`: a GPU where there is one, unless it is named.
        """
        self.inference = inference or InferenceConfig()
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.precision = resolve_precision(self.inference.precision, self.device)
        self.diffusion = diffusion
        self.decode = self.inference.decode or decode
        self.residual_noise = residual_noise
        self.num_steps = self.inference.num_inference_steps or diffusion.num_steps
        self._check_depth()
        self.sampler = Sampler(make_process(diffusion, sampling=True), num_steps=self.num_steps)

    @property
    def process(self) -> str:
        """How the latents are sampled, for people."""
        process = self.diffusion.process
        text = f"{process} {'drawn' if process == 'ddpm' else 'without noise'} in {self.precision}"
        if self.residual_noise is None:
            return text
        return f"{text} with a draw of what is left over (calibration {self.residual_noise.digest})"

    @property
    def decoding(self) -> str:
        """How the image is decoded, for people."""
        depth = self.inference.decoder_depth
        return self.decode if depth is None else f"{self.decode} at depth {depth}"

    @classmethod
    def load(
        cls, folder: Path, inference: InferenceConfig | None = None, *, device: torch.device | None = None
    ) -> Standardizer:
        """The trained model in `folder` (written by training), ready for use on `device`.

        Raises:
            ValueError: no model there, or a damaged one; a sample is asked of one that is not calibrated.
        """
        model, about = load_model(folder)
        settings = about["settings"]
        output = (inference.output if inference else None) or read_output(folder)
        residual_noise = read_residual_noise(folder) if output == "sample" else None
        return cls(
            model,
            diffusion=make_settings(DiffusionConfig, settings["diffusion"]),
            decode=settings["loss"]["decode"],
            inference=inference,
            residual_noise=residual_noise,
            device=device,
        )

    @torch.inference_mode()
    def standardize(
        self, hu: NDArray[np.float32], spacing_mm: tuple[float, float], *, first_slice: int = 0
    ) -> NDArray[np.float32]:
        """A' in HU (Z, H, W) of source slices A (Z, H, W) with PixelSpacing (y, x), whole numbers as DICOM stores them.

        `first_slice` is the number of hu[0] in its series: the noise of a slice does not depend on how a series is cut up.
        Values are kept inside the range that the target series of the training pairs had.

        Raises:
            ValueError: another shape; or a value that is not finite, which the FFT would residual_noise over its whole slice.
        """
        if hu.ndim != 3:
            raise ValueError(f"standardize needs slices of shape (Z, H, W), got {hu.shape}")
        low, high = (float(v) for v in self.model.kernel_match.range_hu)
        result = np.empty(hu.shape, np.float32)
        for i, image in enumerate(hu):
            if not np.isfinite(image).all():
                raise ValueError(f"slice {first_slice + i} holds values that are not finite")
            generator = torch.Generator().manual_seed(self.inference.seed * 1_000_003 + first_slice + i)
            source = torch.from_numpy(image.astype(np.float32)).to(self.device)  # a copy: `hu` may be read-only
            matched = self.model.match_kernel(source[None], spacing_mm)
            output = to_hu(self._convert(to_network(matched)[:, None], generator, spacing_mm))
            result[i] = output[0, 0].round().clamp(low, high).cpu().numpy()
            if self.residual_noise is not None:
                result[i] = self.residual_noise.draw(result[i], seed=self.inference.seed, number=first_slice + i)
        return result

    def _convert(self, x: Tensor, generator: torch.Generator, spacing_mm: tuple[float, float]) -> Tensor:
        """Ã → A', (1, 1, H, W) in network units, any H and W, PixelSpacing (y, x)."""
        height, width = x.shape[-2:]
        divisor = self.model.config.autoencoder.size_divisor
        padding = (0, -width % divisor, 0, -height % divisor)
        padded = functional.pad(x, padding, mode="replicate").contiguous(memory_format=torch.channels_last)
        places_mm = torch.from_numpy(np.stack(position_mm((height, width), spacing_mm)))[None].to(x.device)
        places_mm = functional.pad(places_mm, padding, mode="replicate")
        with autocast(self.precision, self.device):
            source, features = self.model.encode(padded)
            latents = self.sampler.sample(
                lambda z_t, t: self.model.denoise(z_t, source, t.to(x.device)), source, generator=generator
            )
            change = self._decode(latents, source, features, places_mm)[..., :height, :width]
        return x + change if self.decode == "residual" else change

    def _decode(self, latents: Latents, source: Latents, features: list[Tensor], places_mm: Tensor) -> Tensor:
        """D(Z_A') (`direct`), or D(Z_A') − D(E(Ã)) (`residual`), (1, 1, H, W)."""
        decode = partial(
            self.model.decode, features=features, position_mm=places_mm, depth=self.inference.decoder_depth
        )
        standardized = decode(latents)[-1].float()
        if self.decode == "direct":
            return standardized
        return standardized - decode(source)[-1].float()

    def _check_depth(self) -> None:
        deepest = self.model.config.autoencoder.num_levels - 1
        if self.inference.decoder_depth is not None and not 1 <= self.inference.decoder_depth <= deepest:
            raise ValueError(
                f"decoder_depth must lie in 1…{deepest} for this model, got {self.inference.decoder_depth}"
            )
