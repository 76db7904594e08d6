"""Start weights: networks trained on simulated scans of all kinds (workflows/pretrain), shipped with the package.

configs/start_weights/README.md is their model card. A network is filled whole or not at all.
"""

from __future__ import annotations

from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor, nn


def load_start_weights(network: nn.Module, name: str) -> None:
    """Fill `network` with the start weights of that name.

    Raises:
        ValueError: there are none, or they are for a network of other shapes.
    """
    file = resources.files("ltdiff.configs") / "start_weights" / f"{name}.safetensors"
    if not file.is_file():
        raise ValueError(f"there are no start weights {name!r}; train from scratch: --settings.training.start scratch")
    weights = load(file.read_bytes())
    own = network.state_dict()
    different = sorted(key for key in weights.keys() | own.keys() if _shape(weights, key) != _shape(own, key))
    if different:
        raise ValueError(
            f"the start weights {name!r} are for a network of other shapes ({different[0]} differs); "
            "train from scratch: --settings.training.start scratch"
        )
    network.load_state_dict(weights)


def _shape(weights: dict[str, Tensor], key: str) -> torch.Size | None:
    return weights[key].shape if key in weights else None
