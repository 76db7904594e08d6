"""Arithmetic of the networks: bfloat16 where the device has instructions for it, float32 elsewhere."""

from typing import Literal

import torch

from ltdiff.model.config import Precision

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""x86, x86 and ARM, as `torch.cpu.get_capabilities` names them."""


def resolve_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """Resolve `auto` for a device. Without instructions of its own, bf16 is emulated and takes ten times as long as fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = any(torch.cpu.get_capabilities().get(name, False) for name in BF16_INSTRUCTIONS)
    return "bf16" if has_bf16 else "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which networks run on `device` with this precision; their weights stay in float32."""
    enabled = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
