"""Arithmetic of the networks: bfloat16 where the device has instructions for it, float32 elsewhere."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ltdiff.model.config import Precision

if TYPE_CHECKING:  # PyTorch takes seconds to import, and an archive in which all is done needs no network
    import torch

BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}
"""x86, x86 and ARM, as Linux and `torch.cpu.get_capabilities` name them."""
CPU_INFO = Path("/proc/cpuinfo")


def resolve_precision(precision: Precision, device_type: str) -> Literal["bf16", "fp32"]:
    """Resolve `auto` for `cpu` or `cuda`. Without instructions for it, bf16 is emulated and takes ten times as long as fp32."""
    if precision != "auto":
        return precision
    if device_type == "cuda":
        import torch

        has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = bool(BF16_INSTRUCTIONS & cpu_instructions())
    return "bf16" if has_bf16 else "fp32"


def autocast(precision: Precision, device: "torch.device") -> "torch.autocast":
    """The context in which networks run on `device` with this precision; their weights stay in float32."""
    import torch

    enabled = resolve_precision(precision, device.type) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def cpu_instructions() -> set[str]:
    """Names of the instruction sets of this machine's processor."""
    if CPU_INFO.is_file():
        return set(" ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE)[:1]).split())
    import torch

    return {name for name, value in torch.cpu.get_capabilities().items() if value is True}
