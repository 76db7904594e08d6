"""Joining a Ray cluster, or starting a small private one on this machine for as long as it is needed."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any, TypeVar

import ray
import ray.data

from ltdiff.system.private_ray import private_ray, shutting_down
from ltdiff.system.processes import exit_on_sigterm
from ltdiff.system.progress import duration
from ltdiff.system.ray_address import RAY_ADDRESS, check_cluster, named_cluster
from ltdiff.system.resources import num_cores

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

CLUSTER_WAIT_S = "LTDIFF_CLUSTER_WAIT_S"
"""Environment variable: seconds that a cluster which is too small has to grow."""
DEFAULT_WAIT_S = 600.0
LOOK_EVERY_S = 1.0
NO_ERROR = "has constructor arguments in the object store and max_restarts > 0"
"""In a line that Ray's C++ part writes for every actor of Ray Data, as an error, and no setting stops (Ray's issue 57733)."""


@contextmanager
def ray_session(
    *, num_cpus: int, num_gpus: int = 0, dashboard: bool = False, show_workers: bool = True, takes_all_cores: bool = False
) -> Iterator[None]:
    """Have Ray with at least `num_cpus` logical CPUs and `num_gpus` GPUs inside the block.

    Joins the cluster that `RAY_ADDRESS` names (a submitted job's does) or a Ray that this process has already started;
    else starts one here and stops it afterwards. Logical CPUs are permits, not cores: Ray Data needs whole ones beside the
    workers' own, and a job that lacks them would wait for ever. A cluster that is joined and too small is asked for them, and has
    some minutes to grow (CLUSTER_WAIT_S): an autoscaler adds nodes for what is asked. A private Ray has a `dashboard`, on
    loopback, only where Ray Train asks it for the state of its actors: its processes take some per cent of a core; with
    `takes_all_cores` it has a logical CPU for each core of the machine, if that is more. Without `show_workers` what other
    processes print stays in their log files.

    Raises:
        ValueError: the cluster is too small, or does not answer; or a private Ray did not start.
        SystemExit: SIGTERM came (143); a private Ray was stopped.
    """
    if ray.is_initialized():
        _check_size(num_cpus=num_cpus, num_gpus=num_gpus)
        with exit_on_sigterm():
            yield
        return
    options = {"log_to_driver": show_workers, "logging_level": logging.WARNING}
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it warns that it uses a token
    on_signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        own_cpus = max(num_cpus, num_cores()) if takes_all_cores else num_cpus
        with _joined(options) if named_cluster() else private_ray(own_cpus, num_gpus, dashboard=dashboard, options=options):
            if named_cluster():
                _await_size(num_cpus=num_cpus, num_gpus=num_gpus)
            _check_size(num_cpus=num_cpus, num_gpus=num_gpus)
            with exit_on_sigterm():
                yield
    finally:
        _set_handlers(on_signals)  # Ray leaves its own behind, by which SIGTERM is exit code 15


@contextmanager
def _joined(options: Mapping[str, Any]) -> Iterator[None]:
    check_cluster(named_cluster())
    try:
        ray.init(**options)
    except Exception as error:  # Ray has no class of its own for it
        raise ValueError(f"the Ray cluster at {named_cluster()}, which {RAY_ADDRESS} names, cannot be joined: {error}") from error
    with shutting_down():
        yield


def _await_size(*, num_cpus: int, num_gpus: int) -> None:
    """Ask a cluster that is too small for what is needed, and wait until it is there, or for CLUSTER_WAIT_S."""
    if not _shortage(num_cpus=num_cpus, num_gpus=num_gpus):
        return
    wait_s = float(os.environ.get(CLUSTER_WAIT_S, DEFAULT_WAIT_S))
    logger.info(
        "the Ray cluster is too small: %d logical CPUs and %d GPUs are asked of its autoscaler, for up to %s (%s)",
        *(num_cpus, num_gpus, duration(wait_s), CLUSTER_WAIT_S),
    )
    bundles = [{"CPU": 1.0, "GPU": 1.0}] * num_gpus + [{"CPU": 1.0}] * (num_cpus - num_gpus)
    group = ray.util.placement_group(bundles)
    deadline_s = time.monotonic() + wait_s
    try:
        while _shortage(num_cpus=num_cpus, num_gpus=num_gpus) and time.monotonic() < deadline_s:
            group.wait(LOOK_EVERY_S)  # others may use what is there: then it grows, and the group is not placed
    finally:
        ray.util.remove_placement_group(group)


def _check_size(*, num_cpus: int, num_gpus: int) -> None:
    if shortage := _shortage(num_cpus=num_cpus, num_gpus=num_gpus):
        raise ValueError(shortage)


def _shortage(*, num_cpus: int, num_gpus: int) -> str:
    """What the cluster has too little of, as an error says it; "" where it is large enough."""
    resources = ray.cluster_resources()
    for name, needed in (("CPU", num_cpus), ("GPU", num_gpus)):
        if resources.get(name, 0) < needed:
            return (
                f"this job needs {needed} logical {name}s, the Ray cluster has {resources.get(name, 0):g}; "
                "use fewer workers or a larger cluster"
            )
    return ""


@contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Have no bars, announcements and lines with `NO_ERROR` of Ray Data; stderr is no terminal inside the block.

    To be entered after Ray has started: its processes would keep the filter alive.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it warns that its bars are off
    ray.data.DataContext.get_current().enable_progress_bars = False
    stderr = os.dup(2)
    command = ["grep", "--line-buffered", "--invert-match", "--fixed-strings", NO_ERROR]
    with Popen(command, stdin=PIPE, stdout=stderr, start_new_session=True) as grep:
        assert grep.stdin is not None
        os.dup2(grep.stdin.fileno(), 2)
        grep.stdin.close()
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def num_worker_nodes() -> int:
    """Nodes of the cluster that is joined that have CPUs; those that only lead it have none."""
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def on_node(function: Callable[[], Result], *, num_cpus: int = 0, num_gpus: int = 0) -> Result:
    """Run `function` on a node that has so many free: the process that starts a job may run on one without, or on a small one.

    What `function` raises is raised here.
    """

    def call() -> Result:  # Ray takes functions, no partial ones
        return function()

    try:
        result: Result = ray.get(ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)(call).remote())
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return result


def _set_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # nobody else can
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
