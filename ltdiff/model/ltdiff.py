"""The composed model: kernel match, encoder, latent scaling, denoiser, decoder; built, saved and loaded as one."""

from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from ltdiff.model.config import ModelConfig
from ltdiff.model.denoiser import Denoiser
from ltdiff.model.latent import Latents, LatentScaling
from ltdiff.model.model_folder import DESCRIPTION_FILE, FORMAT_VERSION, description_errors, description_text, verify_model_folder
from ltdiff.model.residual_flow import ResidualFlow
from ltdiff.model.unetpp import Decoder, Encoder
from ltdiff.physics.degradation import Degradation
from ltdiff.physics.kernel_match import KernelMatch
from ltdiff.system.atomic_files import file_sha256, finish_folder
from ltdiff.system.settings_tree import make_settings

PARTS = {"encoder": ("encoder", "scaling"), "denoiser": ("denoiser", "residual_flow"), "decoder": ("decoder",)}
"""Weights file → modules in it."""
NOT_PRETRAINED = "decoder.refinement.", "residual_flow."
"""What is peculiar to a scanner, and changes nothing until it is trained: the decoder's last layers, and what is left over."""


class LTDiff(nn.Module):
    """The networks in network units; HU, noise processes and sampling are the caller's (training, inference)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.kernel_match = KernelMatch()
        self.encoder = Encoder(config.autoencoder)
        self.scaling = LatentScaling(config.autoencoder.latent_channels)
        self.denoiser = Denoiser(config.autoencoder.latent_channels, config.denoiser)
        self.decoder = Decoder(config.autoencoder)
        self.residual_flow = ResidualFlow(config.residual_flow)
        self.degradation: Degradation | None = None
        """What made the sources of its training, where there were targets without a pair."""

    @property
    def networks(self) -> nn.ModuleDict:
        """All that is learned, without the kernel match."""
        return nn.ModuleDict({name: self.get_submodule(name) for modules in PARTS.values() for name in modules})

    def match_kernel(self, hu: Tensor, spacing_mm: tuple[float, float]) -> Tensor:
        """Ã in HU: h applied to slices (…, H, W), or the slices themselves where the configuration has no h."""
        return self.kernel_match(hu, spacing_mm) if self.config.kernel_match else hu.float()

    def encode(self, x: Tensor) -> tuple[Latents, list[Tensor]]:
        """Image (B, 1, H, W) → scaled latents and the encoder's features."""
        latents, features = self.encoder(x)
        return self.scaling.apply_scaling(latents), features

    def decode(
        self,
        latents: Latents,
        features: list[Tensor] | None = None,
        *,
        position_mm: Tensor | None = None,
        depth: int | None = None,
    ) -> list[Tensor]:
        """Scaled latents → images (B, 1, H, W), one per supervised head up to that of `depth`; see `Decoder`."""
        return self.decoder(self.scaling.inverse(latents), features, position_mm=position_mm, depth=depth)

    def denoise(self, z_t: Latents, source: Latents, t: Tensor) -> Latents:
        """The denoiser's output for scaled latents; t (B,) in [0, 1]."""
        return self.denoiser(z_t, source, t)


def save_model(model: LTDiff, folder: Path, *, about: dict[str, Any]) -> None:
    """Write the model to `folder`, which must not exist yet; it appears whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name, modules in PARTS.items():
        weights = {
            f"{module}.{key}": value.detach().cpu().contiguous()
            for module in modules
            for key, value in model.get_submodule(module).state_dict().items()
        }
        save_file(weights, partial / weights_file(name))
    description = {
        "format_version": FORMAT_VERSION,
        "config": asdict(model.config),
        "kernel_match": {key: value.tolist() for key, value in model.kernel_match.state_dict().items()},
        **({"degradation": asdict(model.degradation)} if model.degradation else {}),
        "about": about,
        "files": {weights_file(name): file_sha256(partial / weights_file(name)) for name in PARTS},
    }
    (partial / DESCRIPTION_FILE).write_text(description_text(description))
    finish_folder(partial, folder)


def load_model(folder: Path) -> tuple[LTDiff, dict[str, Any]]:
    """The model in `folder` and what its trainer noted about it.

    Raises:
        ValueError: not a model folder, another format version, or a file that is damaged; or it holds one part alone.
    """
    description = verify_model_folder(folder)
    files = list(description["files"])
    if len(files) == 1 and files[0] in map(weights_file, PARTS):
        raise ValueError(f"{folder} holds a part of a model alone, {files[0]}: load_part loads it")
    model = _fill(folder, description, list(PARTS))
    return model, description["about"]


def load_part(folder: Path) -> tuple[nn.ModuleDict, dict[str, Any]]:
    """The modules of the part of a model in `folder`, by name, and what the model's trainer noted about the whole.

    The modules are those of `PARTS`: `encoder` and `scaling`, `denoiser` and `residual_flow`, or `decoder`; ready for use, not
    for training.

    Raises:
        ValueError: `folder` does not hold one part of a model, or it is damaged.
    """
    description = verify_model_folder(folder)
    found = [name for name in PARTS if weights_file(name) in description["files"]]
    if len(found) != 1 or len(description["files"]) != 1:
        listed = ", ".join(description["files"]) or "no weights"
        raise ValueError(f"{folder / DESCRIPTION_FILE} lists {listed}, not those of one part of a model")
    model = _fill(folder, description, found)
    return nn.ModuleDict({name: model.get_submodule(name) for name in PARTS[found[0]]}).eval(), description["about"]


def weights_file(part: str) -> str:
    """The name of a part's file in a model folder."""
    return f"{part}.safetensors"


def _fill(folder: Path, description: dict[str, Any], parts: list[str]) -> LTDiff:
    """The model that a verified folder describes, with the weights of these parts; the others' are not trained."""
    with description_errors(folder):
        model = LTDiff(make_settings(ModelConfig, description["config"]))
        degradation = description.get("degradation")
        model.degradation = TypeAdapter(Degradation).validate_python(degradation) if degradation else None
        match = {key: torch.tensor(value, dtype=torch.float64) for key, value in description["kernel_match"].items()}
    try:
        model.kernel_match.load_state_dict(match)
        for name in parts:
            weights = _read_weights(folder, weights_file(name), verified=description["files"])
            for module in PARTS[name]:
                prefix = f"{module}."
                model.get_submodule(module).load_state_dict(
                    {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
                )
    except (KeyError, RuntimeError) as error:  # what torch raises where names or shapes differ
        raise ValueError(f"the model in {folder} does not fit its own {DESCRIPTION_FILE}: {error}") from error
    return model


def _read_weights(folder: Path, name: str, *, verified: dict[str, str]) -> dict[str, Tensor]:
    if name not in verified:
        raise KeyError(name)
    try:
        return load_file(folder / name)
    except SafetensorError as error:
        raise ValueError(f"{folder / name} is no safetensors file: {error}") from error


def load_pretrained_weights(model: LTDiff) -> None:
    """Fill the networks of `model` with weights that were trained on simulated scans of all kinds (jobs/pretrain); a network is
    filled whole or not at all, and its kernel match stays. Their model card is configs/pretrained/README.md.

    Raises:
        ValueError: the weights are for networks of other shapes.
    """
    weights = load((resources.files("ltdiff.configs") / "pretrained" / "ltdiff.safetensors").read_bytes())
    own = {key: value for key, value in model.networks.state_dict().items() if not key.startswith(NOT_PRETRAINED)}
    shapes, own_shapes = ({key: value.shape for key, value in tensors.items()} for tensors in (weights, own))
    if different := sorted(key for key, _ in shapes.items() ^ own_shapes.items()):
        raise ValueError(
            f"the pretrained weights are for networks of the default shapes ({different[0]} differs); "
            "train from scratch: --set training.init=scratch"
        )
    model.networks.load_state_dict(weights, strict=False)
