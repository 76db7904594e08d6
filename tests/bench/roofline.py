"""Operations and bytes of each stage of the networks, and how close this core comes to what it could do.

    taskset -c 0 python tests/bench/roofline.py [OUT.md]

Operations are multiplications and additions of convolutions and matrix products. Bytes are those that every operation of PyTorch
reads and writes, as if nothing stayed in a cache and nothing were fused: the most that can be. The least time of a stage is that
of its operations at the rate of a large matrix product, or of its bytes at the rate of a large copy, whichever is longer.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ltdiff.model.ltdiff import LTDiff
from ltdiff.model.precision import autocast, resolve_precision
from ltdiff.training.config import Settings
from ltdiff.training.phase import BatchNoise, Phase
from ltdiff.training.phases import PHASES

BATCH_SIZE, PATCH_PX, SLICE_PX = 2, 128, 512
REPETITIONS = 7
PEAK_SIDE, COPIED_MB = 2048, 512
GPU = ("H100 SXM, by its data sheet", 989e12, 3.35e12)
"""bf16 operations and bytes a second."""


class ByteCounter(TorchDispatchMode):
    """Sums the bytes of all tensors that go into operations and come out of them; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.num_bytes += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


@dataclass(frozen=True)
class Machine:
    """What one thread of this core, or a GPU, can do at most."""

    name: str
    operations_per_s: float
    bytes_per_s: float

    def least_s(self, operations: float, num_bytes: float) -> float:
        """Seconds that nothing can go below."""
        return max(operations / self.operations_per_s, num_bytes / self.bytes_per_s)


def median_s(function: Callable[[], object]) -> float:
    """Median CPU time of one call, after one that warms up: other processes may share the core."""
    times = []
    for _ in range(REPETITIONS + 1):
        started_s = time.process_time()
        function()
        times.append(time.process_time() - started_s)
    return statistics.median(times[1:])


def measure_core(dtype: torch.dtype) -> Machine:
    """A large matrix product, and a large copy."""
    a = torch.randn(PEAK_SIDE, PEAK_SIDE, dtype=dtype)
    image = torch.ones(COPIED_MB << 18)
    copy = torch.empty_like(image)
    product_s, copy_s = median_s(lambda: a @ a), median_s(lambda: copy.copy_(image))
    return Machine(f"one core, {dtype}".replace("torch.", ""), 2 * PEAK_SIDE**3 / product_s, 2 * image.nbytes / copy_s)


def stages(model: LTDiff, settings: Settings) -> dict[str, Callable[[], object]]:
    """One slice of 512², stage by stage, and a step of each phase on patches of 128²."""
    x = torch.randn(1, 1, SLICE_PX, SLICE_PX).contiguous(memory_format=torch.channels_last)
    places = torch.linspace(-200, 200, SLICE_PX).expand(1, 2, SLICE_PX, SLICE_PX)
    hu, precision = torch.randn(1, SLICE_PX, SLICE_PX) * 500, resolve_precision("auto", "cpu")

    def use(function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode(), autocast(precision, torch.device("cpu")):
                return function()

        return run

    latents, features = use(lambda: model.encode(x))()
    t = torch.ones(1)
    of_slice = {
        "kernel match of a slice": lambda: model.match_kernel(hu, (0.8, 0.8)),
        "encoder": lambda: model.encode(x),
        "denoiser, one step": lambda: model.denoise(latents, latents, t),
        "decoder with last layers": lambda: model.decode(latents, features, position_mm=places),
    }
    return {name: use(stage) for name, stage in of_slice.items()} | {
        f"a training step of phase {name}": _training_step(PHASES[name](model, settings), precision)
        for name in ("autoencoder", "ddpm", "joint")
    }


def _training_step(phase: Phase, precision: str) -> Callable[[], object]:
    """Forward and backward pass of a batch, without the optimizer's own work."""
    shape = (BATCH_SIZE, PATCH_PX, PATCH_PX)
    batch = {name: (torch.randn(shape) * 500).to(torch.int16) for name in ("image", "source", "target")}
    batch |= {name: torch.arange(PATCH_PX, dtype=torch.int16).expand(shape) for name in ("y_mm", "x_mm")}
    phase.train()

    def run() -> None:
        with autocast(precision, torch.device("cpu")):
            loss = phase(batch, BatchNoise(0, range(BATCH_SIZE)))["loss"]
        loss.backward()
        phase.zero_grad()

    return run


def main(out: Path | None) -> None:
    """Write the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = Settings()
    model = LTDiff(settings.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = resolve_precision("auto", "cpu")
    core, gpu = measure_core(torch.bfloat16 if precision == "bf16" else torch.float32), Machine(*GPU)
    rows = []
    for name, stage in stages(model, settings).items():
        stage()
        with FlopCounterMode(display=False) as operations, ByteCounter() as moved:
            stage()
        found, num_bytes = operations.get_total_flops(), moved.num_bytes
        took_s, least_s = median_s(stage), core.least_s(found, num_bytes)
        rows.append(
            {
                "stage": name,
                "GFLOP": found / 1e9,
                "GB": num_bytes / 1e9,
                "FLOP per byte": found / num_bytes,
                "ms": 1000 * took_s,
                "least ms": 1000 * least_s,
                "share": least_s / took_s,
                "bound": "operations" if found / core.operations_per_s > num_bytes / core.bytes_per_s else "bytes",
                "GPU, least ms": 1000 * gpu.least_s(found, num_bytes),
            }
        )
    lines = [f"{one.name}: {one.operations_per_s / 1e9:.0f} GFLOP/s, {one.bytes_per_s / 1e9:.1f} GB/s" for one in (core, gpu)]
    text = "\n".join([*lines, "", pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"), ""])
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
