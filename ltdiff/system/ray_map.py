"""A function of many items on Ray: a task for each, at most `num_workers` at a time, in a Ray that is joined or started here."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import ray

from ltdiff.system.ray_cluster import ray_session

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_ray(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int
) -> Iterator[tuple[Item, Result | None]]:
    """Each item with its result as soon as that is there; None where it ended two processes, or raised an error.

    `items` are drawn when there is a worker for them.
    """
    with ray_session(num_cpus=num_workers):
        task = ray.remote(num_cpus=1, max_retries=1, scheduling_strategy="SPREAD")(function)
        todo = iter(items)
        in_hand: dict[ray.ObjectRef, Item] = {task.remote(item): item for item in islice(todo, num_workers)}
        while in_hand:
            (done, *_), _ = ray.wait(list(in_hand))
            item = in_hand.pop(done)
            in_hand |= {task.remote(following): following for following in islice(todo, 1)}
            try:
                yield item, ray.get(done)
            except ray.exceptions.RayError:
                yield item, None
