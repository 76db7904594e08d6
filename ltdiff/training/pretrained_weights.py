"""Pretrained weights: networks trained on simulated scans of all kinds (jobs/pretrain), shipped with the package.

configs/pretrained/README.md is their model card. A network is filled whole or not at all; the decoder's last layers
(`PixelRefinement`), which hold what is peculiar to a scanner, have none and change nothing until they are trained.
"""

from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor

from ltdiff.model.ltdiff import LTDiff

WITHOUT = "decoder.refinement."


def load_pretrained_weights(model: LTDiff) -> None:
    """Fill the networks of `model`; its kernel match stays.

    Raises:
        ValueError: the weights are for networks of other shapes.
    """
    weights = load((resources.files("ltdiff.configs") / "pretrained" / "ltdiff.safetensors").read_bytes())
    own = {key: value for key, value in model.networks.state_dict().items() if not key.startswith(WITHOUT)}
    different = sorted(key for key in weights.keys() | own.keys() if _shape(weights, key) != _shape(own, key))
    if different:
        raise ValueError(
            f"the pretrained weights are for networks of the default shapes ({different[0]} differs); "
            "train from scratch: --set training.init=scratch"
        )
    model.networks.load_state_dict(weights, strict=False)


def _shape(weights: dict[str, Tensor], key: str) -> torch.Size | None:
    return weights[key].shape if key in weights else None
