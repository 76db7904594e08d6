"""`auto` is bf16 where the device has instructions for it, and fp32 where it would be emulated."""

import pytest
import torch

from ltdiff.model.precision import autocast, resolve_precision

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
def test_auto_goes_by_what_the_cpu_can_do(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_is_asked_for_is_taken(precision):
    assert resolve_precision(precision, CPU) == precision


def test_this_machine_says_what_it_can_do():
    assert resolve_precision("auto", CPU) in ("bf16", "fp32")


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_convolutions_run_in_it(precision, dtype):
    with autocast(precision, CPU):
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype
