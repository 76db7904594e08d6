"""The Ray Data stream that feeds training: samples → patches → batches.

Stages, all lazy and streaming, nothing runs before the worker iterates:

1. `ray.data.range`: the numbers of all samples of the run, in blocks (`samples_per_block`).
2. A `Loader` of data/batch_loader (map_batches): each sample's slice, decoded, matched, cropped and turned. These are functions
   of (seed, sample) alone: the stream of a resumed run goes on as if it had never stopped, and needs no state but the number of
   the first sample.
3. `iter_torch_batches` in the worker, over its `WorkerShard` of the samples.

Memory is bounded by the blocks in flight, whatever the size of the data set.

The actor that runs a stream imports this module: without torch and what decodes slices it starts seconds earlier.
"""

import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ltdiff.data.batch_loader import Loader

STREAM_BYTES, BLOCKS_PER_CPU = 256 << 20, 2
"""How far a worker's stream may run ahead of its training, in bytes of patches; or, if that is more, in blocks for each task: the
one that it makes, and one that waits."""


@dataclass(frozen=True)
class WorkerShard:
    """Which samples one of `world_size` workers makes: of every global batch, the `rank`-th `batch_size` of them."""

    batch_size: int
    rank: int = 0
    world_size: int = 1
    first_step: int = 0

    def samples(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """This worker's own numbers 0, 1, 2 … → numbers among all samples of the run."""
        steps, places = np.divmod(numbers, self.batch_size)
        return ((self.first_step + steps) * self.world_size + self.rank) * self.batch_size + places


def make_stream(loader: "Loader", shard: WorkerShard, *, num_samples: int, num_cpus: int = 1) -> ray.data.DataIterator:
    """The lazy Ray Data stream of a worker's next `num_samples` samples, in order, loaded by at most `num_cpus` tasks at a time.

    It is run by an actor of its own (`streaming_split`): run by the worker itself, Ray Data's scheduler would hold Python's
    global lock for a third of the time, and the training would go at a third of its speed.
    """
    from ltdiff.data.patches import block_bytes, samples_per_block

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    ahead_bytes = max(STREAM_BYTES, BLOCKS_PER_CPU * num_cpus * block_bytes(loader.patch_size))
    context.execution_options.resource_limits = ray.data.ExecutionResources(cpu=num_cpus, object_store_memory=ahead_bytes)
    context.enable_progress_bars = context.print_on_execution_start = False  # the training loop shows the progress
    context.custom_execution_callback_classes = [_SchedulerThrottle]
    per_block = samples_per_block(loader.patch_size)
    numbers = ray.data.range(num_samples, override_num_blocks=max(1, -(-num_samples // per_block)))
    # Whole blocks: with a batch size Ray Data would not fuse reading and loading, and would read all numbers before it loads one.
    stream = numbers.map_batches(_load_block, batch_size=None, fn_args=(ray.put(loader), shard))
    (iterator,) = stream.streaming_split(1)
    return iterator


class _SchedulerThrottle:
    """Rest between the turns of Ray Data's scheduler, which spins on half a core while finished blocks wait to be used."""

    PAUSE_S = 0.05

    def __init__(self) -> None:
        """In the actor that runs the stream, which else warns that its progress bars are off, at every start of a phase."""
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def before_execution_starts(self, executor: object) -> None:
        """Warnings of the execution itself are shown; that it has finished is not."""
        logging.getLogger("ray.data").setLevel(logging.WARNING)

    def on_execution_step(self, executor: object) -> None:
        """Called after every turn."""
        time.sleep(self.PAUSE_S)

    def after_execution_succeeds(self, executor: object) -> None:
        """Nothing."""

    def after_execution_fails(self, executor: object, error: Exception) -> None:
        """Nothing."""


def _load_block(
    block: dict[str, NDArray[np.int64]], loader: "ray.ObjectRef[Loader]", shard: WorkerShard
) -> dict[str, NDArray[np.int16]]:
    import torch

    torch.set_num_threads(1)  # the stream shares its cores with the training
    return _fetch(loader)({"id": shard.samples(block["id"])})


@lru_cache(maxsize=1)
def _fetch(loader: "ray.ObjectRef[Loader]") -> "Loader":
    """Once for all blocks that a process loads."""
    fetched: Loader = ray.get(loader)
    return fetched
