"""`auto` is bf16 where the device has instructions for it, and fp32 where it would be emulated."""

import pytest
import torch

from ltdiff.model import precision
from ltdiff.model.precision import BF16_INSTRUCTIONS, autocast, cpu_instructions, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"architecture": "x86_64", "avx512_bf16": True}, "bf16"),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"architecture": "arm64", "neon": True, "bf16": True}, "bf16"),
        ({"architecture": "arm64", "neon": True}, "fp32"),
    ],
)
@pytest.mark.parametrize("is_linux", [True, False])
def test_auto_goes_by_what_the_cpu_can_do(monkeypatch, tmp_path, capabilities, expected, is_linux):
    """As Linux says it of each of its processors, and as PyTorch says it elsewhere."""
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    if is_linux:
        flags = " ".join(name for name, value in capabilities.items() if value is True)
        precision.CPU_INFO.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} vme\n\nprocessor\t: 1\nflags\t\t: fpu {flags}\n")
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", "cpu") == expected


@pytest.mark.skipif(not precision.CPU_INFO.is_file(), reason="this is no Linux")
def test_linux_and_pytorch_agree_on_this_machine():
    capabilities = torch.cpu.get_capabilities()
    found = {name for name in BF16_INSTRUCTIONS if capabilities.get(name)}
    assert cpu_instructions() & BF16_INSTRUCTIONS == found


@pytest.mark.parametrize("wanted", ["bf16", "fp32"])
def test_what_is_asked_for_is_taken(wanted):
    assert resolve_precision(wanted, "cpu") == wanted


def test_this_machine_says_what_it_can_do():
    assert resolve_precision("auto", "cpu") in ("bf16", "fp32")


@pytest.mark.parametrize(("wanted", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_convolutions_run_in_it(wanted, dtype):
    with autocast(wanted, CPU):
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype
