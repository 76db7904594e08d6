"""Several workers, or those of a cluster: Ray Data hands one task after the other to actors.

Stages: `from_items` (the numbers of the tasks, one to a block, longest task first) → `_Worker` (map_batches; an actor for each
worker) → rows with what became of each task, in the order they are done. Only numbers travel between the processes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from ltdiff.inference.tasks import Outcome, Task, WorkerSettings
from ltdiff.inference.worker import ArchiveWorker
from ltdiff.model.config import Precision
from ltdiff.model.precision import resolve_precision
from ltdiff.system.private_ray import restore_umask
from ltdiff.system.ray_cluster import num_worker_nodes, on_node, quiet_ray_data, ray_session


def resolve_on_gpu_node(precision: Precision) -> Precision:
    """Resolve `auto` on a node of the cluster that has a GPU: the process that starts a job may run on one without."""
    with ray_session(num_cpus=1, num_gpus=1):
        return on_node(partial(resolve_precision, precision, "cuda"), num_gpus=1)


def run_on_ray(tasks: Sequence[Task], settings: WorkerSettings, *, num_workers: int) -> Iterator[Outcome]:
    """Do the tasks with `num_workers` actors, in a Ray that is joined or started here."""
    with ray_session(num_cpus=num_workers, num_gpus=num_workers if settings.use_gpu else 0), quiet_ray_data():
        stream = _stream(tasks, settings, num_workers=num_workers)
        # fetching ahead, as it does unless told otherwise, Ray Data would pass each result on when the next one is there
        for batch in stream.iter_batches(batch_size=1, prefetch_batches=0, batch_format="numpy"):
            output = str(batch["output"][0])
            number, reason, seconds = int(batch["task"][0]), str(batch["reason"][0]), float(batch["seconds"][0])
            yield Outcome(number, reason, Path(output) if output else None, seconds)


def _stream(tasks: Sequence[Task], settings: WorkerSettings, *, num_workers: int) -> ray.data.Dataset:
    """The lazy Ray Data stream; see the module's stages."""
    settings = replace(settings, workers_per_node=math.ceil(num_workers / num_worker_nodes()))  # Ray Data spreads its actors
    references = [ray.put(task) for task in tasks]  # an archive's headers are too much for every row and worker
    stream = ray.data.from_items([{"task": number} for number in range(len(tasks))], override_num_blocks=len(tasks))
    return stream.map_batches(
        _Worker,
        batch_size=1,
        # one task at a time: none waits behind a long series while another worker is idle
        compute=ray.data.ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=1),
        fn_constructor_kwargs={"tasks": references, "settings": settings},
        num_cpus=1,
        num_gpus=1 if settings.use_gpu else 0,
    )


class _Worker:
    """The actor."""

    def __init__(self, tasks: list[ray.ObjectRef], *, settings: WorkerSettings) -> None:
        restore_umask()
        self.tasks = tasks
        self.worker = ArchiveWorker(settings)

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        """{"task": its number} → the same with what became of it, all of length 1."""
        number = int(batch["task"][0])
        outcome = self.worker.do(ray.get(self.tasks[number]), number)
        return {"task": [number], "reason": [outcome.reason], "output": [str(outcome.output or "")], "seconds": [outcome.seconds]}
