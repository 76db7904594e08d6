"""A function of many items on Ray: a task for each, at most `num_workers` at a time, in a Ray that is joined or started here."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import ray

from ltdiff.system.ray_cluster import ray_session

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_workers: int
) -> Iterator[tuple[Item, Result | None]]:
    """Each item with its result as soon as that is there; None where it ended two processes, or raised an error."""
    with ray_session(num_cpus=num_workers):
        task = ray.remote(num_cpus=1, max_retries=1, scheduling_strategy="SPREAD")(function)
        todo = deque(items)
        in_hand: dict[ray.ObjectRef, Item] = {}
        while todo or in_hand:
            while todo and len(in_hand) < num_workers:
                item = todo.popleft()
                in_hand[task.remote(item)] = item
            (done, *_), _ = ray.wait(list(in_hand))
            item = in_hand.pop(done)
            try:
                yield item, ray.get(done)
            except ray.exceptions.RayError:
                yield item, None
