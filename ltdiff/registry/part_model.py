"""A part of a trained model behind MLflow's interface; names and shapes are those of `part_tensors`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltdiff.data.network_inputs import position_mm
from ltdiff.model.latent import LatentScaling
from ltdiff.model.ltdiff import load_part
from ltdiff.model.unetpp import Decoder, Encoder

Arrays = Mapping[str, NDArray[np.float32]]
"""By name."""


class PartModel:
    """The networks of one part: they compute in float32, on a GPU where there is one."""

    def load_context(self, context: Any) -> None:
        """Load the networks, whose files are verified."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        modules, _ = load_part(Path(context.artifacts["model"]))
        self.modules = modules.to(self.device)

    @torch.inference_mode()
    def predict(self, context: Any, model_input: Arrays, params: Mapping[str, Any] | None = None) -> Arrays:
        """The outputs of the part by name.

        Raises:
            ValueError: an image with other sides than the encoder takes.
        """
        tensors = {name: torch.tensor(value, dtype=torch.float32, device=self.device) for name, value in model_input.items()}
        run = {"encoder": self._encode, "denoiser": self._denoise, "decoder": self._decode}
        (part,) = run.keys() & set(self.modules)
        outputs = run[part](tensors)
        return {name: value.float().cpu().numpy() for name, value in outputs.items()}

    def _encode(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        encoder, scaling = self.modules["encoder"], self.modules["scaling"]
        assert isinstance(encoder, Encoder)
        assert isinstance(scaling, LatentScaling)
        sides, divisor = tuple(tensors["x"].shape[-2:]), encoder.scale * 2 ** (scaling.num_levels - 1)
        if any(side % divisor for side in sides):
            raise ValueError(f"x has the sides {sides}: they must be multiples of {divisor}")
        raw, features = encoder(tensors["x"])
        means, stds = zip(*scaling.moments(), strict=True)
        named = {"latent": scaling.apply_scaling(raw), "mean": means, "std": stds, "feature": features}
        return {f"{name}_{i}": value for name, values in named.items() for i, value in enumerate(values)}

    def _denoise(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self.modules["denoiser"](_levels(tensors, "z_t"), _levels(tensors, "source"), tensors["t"])
        return {f"output_{i}": value for i, value in enumerate(outputs)}

    def _decode(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        decoder, raw, features = self.modules["decoder"], _levels(tensors, "raw"), _levels(tensors, "feature")
        assert isinstance(decoder, Decoder)
        height, width = (decoder.scale * side for side in raw[0].shape[-2:])
        places = [np.stack(position_mm((height, width), (y_mm, x_mm))) for y_mm, x_mm in tensors["spacing_mm"].tolist()]
        position = torch.from_numpy(np.stack(places)).to(self.device)
        return {"x": decoder(raw, features or None, position_mm=position)[-1]}


def _levels(tensors: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """The tensors NAME_0, NAME_1, … in order."""
    num_levels = sum(key.rpartition("_")[0] == name for key in tensors)
    return [tensors[f"{name}_{i}"] for i in range(num_levels)]
