"""Joining a Ray cluster, or starting a small private one on this machine for as long as it is needed."""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import ray

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
OBJECT_STORE_BYTES = 1 << 30
"""Enough for the blocks in flight; Ray's own default takes 30 % of the machine's memory."""


@contextmanager
def ray_session(
    *, num_cpus: int, num_gpus: int = 0, dashboard: bool = False, show_workers: bool = True
) -> Iterator[None]:
    """Have Ray with at least `num_cpus` logical CPUs and `num_gpus` GPUs inside the block.

    Joins the cluster that `RAY_ADDRESS` names (a submitted job's does) or a Ray that this process has already started;
    else starts one here and stops it afterwards. Logical CPUs are permits, not cores: Ray Data needs whole ones beside the
    workers' own, and a job that lacks them would wait for ever. A private Ray has a `dashboard`, on loopback, only where Ray
    Train asks it for the state of its actors: its processes take some per cent of a core. Without `show_workers` what other
    processes print stays in their log files.

    Raises:
        ValueError: the cluster is too small.
    """
    owned = not ray.is_initialized()
    if owned:
        _start(num_cpus=num_cpus, num_gpus=num_gpus, dashboard=dashboard, show_workers=show_workers)
    try:
        resources = ray.cluster_resources()
        for name, needed in (("CPU", num_cpus), ("GPU", num_gpus)):
            if resources.get(name, 0) < needed:
                raise ValueError(
                    f"this job needs {needed} logical {name}s, the Ray cluster has {resources.get(name, 0):g}; "
                    "use fewer workers or a larger cluster"
                )
        yield
    finally:
        if owned:
            # What is left of a finished training or search refers to objects of Ray. Where the garbage collector finds them in
            # another thread while Ray shuts down, Ray ends the whole process, without a traceback.
            gc.collect()
            ray.shutdown()


def on_gpu_node(function: Callable[[], Result]) -> Result:
    """What `function` returns on a node that has a GPU: the process that starts a job may run on one without."""

    def call() -> Result:  # Ray takes functions, no partial ones
        return function()

    result: Result = ray.get(ray.remote(num_cpus=0, num_gpus=1)(call).remote())
    return result


def _start(*, num_cpus: int, num_gpus: int, dashboard: bool, show_workers: bool) -> None:
    # Ray writes its authentication token readable to everybody unless the umask forbids it.
    previous = os.umask(0o077)
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level=logging.WARNING, log_to_driver=show_workers)
            return
        logger.info("starting a local Ray with %d logical CPUs", num_cpus)
        with _dashboard_port() if dashboard else nullcontext() as port:
            ray.init(
                address="local",  # a private one, also where somebody else's runs, or has left its address behind
                num_cpus=num_cpus,
                num_gpus=num_gpus or None,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                dashboard_port=port,
                logging_level=logging.WARNING,
                log_to_driver=show_workers,
            )
    finally:
        os.umask(previous)


@contextmanager
def _dashboard_port() -> Iterator[int]:
    """A free port, which processes that are started in the block take for that of their dashboard.

    Ray Train's own actors do not know which Ray they run in: they would ask the one whose address was last left on this machine
    whether their controller is alive, and that may be gone, or somebody else's.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    previous = os.environ.get(ADDRESS_VARIABLE)
    os.environ[ADDRESS_VARIABLE] = f"http://127.0.0.1:{port}"
    try:
        yield port
    finally:
        del os.environ[ADDRESS_VARIABLE]
        if previous is not None:
            os.environ[ADDRESS_VARIABLE] = previous
