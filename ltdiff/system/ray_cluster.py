"""Joining a Ray cluster, or starting a small private one on this machine for as long as it is needed."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from subprocess import PIPE, Popen
from typing import Any, TypeVar

import psutil
import ray
import ray.data

from ltdiff.system.resources import environment

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
NO_ERROR = "has constructor arguments in the object store and max_restarts > 0"
"""In a line that Ray's C++ part writes for every actor of Ray Data, as an error, and no setting stops (Ray's issue 57733)."""
UMASK_VARIABLE = "LTDIFF_UMASK"
"""Environment variable with the user's umask, for the processes of a private Ray."""
OBJECT_STORE_BYTES = 1 << 30
"""Enough for the blocks in flight; Ray's own default takes 30 % of the machine's memory."""
NUM_STARTS = 3
"""Tries of 30 s; how long one is cannot be set."""


@contextmanager
def ray_session(*, num_cpus: int, num_gpus: int = 0, dashboard: bool = False, show_workers: bool = True) -> Iterator[None]:
    """Have Ray with at least `num_cpus` logical CPUs and `num_gpus` GPUs inside the block.

    Joins the cluster that `RAY_ADDRESS` names (a submitted job's does) or a Ray that this process has already started;
    else starts one here and stops it afterwards. Logical CPUs are permits, not cores: Ray Data needs whole ones beside the
    workers' own, and a job that lacks them would wait for ever. A private Ray has a `dashboard`, on loopback, only where Ray
    Train asks it for the state of its actors: its processes take some per cent of a core. Without `show_workers` what other
    processes print stays in their log files.

    Raises:
        ValueError: the cluster is too small; or a private Ray did not start.
        SystemExit: SIGTERM came (143); a private Ray was stopped.
    """
    owned = not ray.is_initialized()
    on_signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
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
        with exit_on_sigterm():
            yield
    finally:
        if owned:
            # What is left of a finished training or search refers to objects of Ray. Where the garbage collector finds them in
            # another thread while Ray shuts down, Ray ends the whole process, without a traceback.
            gc.collect()
            ray.shutdown()
            _set_handlers(on_signals)  # Ray leaves its own behind, by which SIGTERM is exit code 15


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


def joins_cluster() -> bool:
    """Return True if a session would join a cluster or a Ray that this process has started, not start a private one."""
    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


def hide_gpus() -> None:
    """Hide GPUs from a worker that asked for none, before it uses PyTorch: Ray leaves the node's GPUs visible."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def restore_umask() -> None:
    """Restore the user's umask in a worker: a private Ray is started with one that lets nobody else read."""
    if UMASK_VARIABLE in os.environ:
        os.umask(int(os.environ[UMASK_VARIABLE], 8))


def num_worker_nodes() -> int:
    """Nodes of the cluster that is joined that have CPUs; those that only lead it have none."""
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def on_gpu_node(function: Callable[[], Result]) -> Result:
    """Run `function` on a node that has a GPU: the process that starts a job may run on one without."""

    def call() -> Result:  # Ray takes functions, no partial ones
        return function()

    result: Result = ray.get(ray.remote(num_cpus=0, num_gpus=1)(call).remote())
    return result


@contextmanager
def exit_on_sigterm(before: Callable[[], None] | None = None) -> Iterator[None]:
    """On SIGTERM (`ray job stop`, a scheduler) call `before`, leave the block and end with exit code 143.

    To be entered after Ray has started, which sets a handler of its own that prints a stack and aborts. While it waits for a
    result, Ray turns what a handler raises into an exit with code 1.

    Raises:
        SystemExit: SIGTERM came (143).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # nobody but the main thread can handle signals
        return
    told_to_stop = False

    def stop(signal_number: int, _: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        logger.warning("ending at SIGTERM; the same command goes on")
        if before is not None:
            before()
        sys.exit(128 + signal_number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit as ending:
        if not told_to_stop:
            raise
        raise SystemExit(128 + signal.SIGTERM) from ending
    finally:
        signal.signal(signal.SIGTERM, previous)


def _set_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # nobody else can
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _start(*, num_cpus: int, num_gpus: int, dashboard: bool, show_workers: bool) -> None:
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it warns that it uses a token
    # Ray writes its authentication token readable to everybody unless the umask forbids it.
    previous = os.umask(0o077)
    try:
        if joins_cluster():
            ray.init(logging_level=logging.WARNING, log_to_driver=show_workers)
            return
        _check_gpus(num_gpus)
        logger.info("starting a local Ray with %d logical CPUs", num_cpus)
        port = _free_port() if dashboard else None
        # Ray Train's own actors do not know which Ray they run in: they would ask the one whose address was last left on this
        # machine whether their controller is alive, and that may be gone, or somebody else's.
        address = {ADDRESS_VARIABLE: f"http://127.0.0.1:{port}"} if dashboard else {}
        with environment(address | {UMASK_VARIABLE: f"{previous:o}"}):
            _start_patiently(
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


def _check_gpus(num_needed: int) -> None:
    """A private Ray believes what it is told: its workers would find no GPU, or fail. Where there is none at all they say so."""
    if not num_needed:
        return
    import torch

    num_found = torch.cuda.device_count()
    if 0 < num_found < num_needed:
        raise ValueError(
            f"this job needs {num_needed} GPUs, PyTorch finds {num_found} on this machine: "
            "use fewer workers, or fewer trials at a time"
        )


def _start_patiently(**options: Any) -> None:
    """`ray.init`, again where Ray gives up: its processes must be there within 30 s. On a busy machine they are not."""
    this = psutil.Process()
    for _ in range(NUM_STARTS):
        others = set(this.children(recursive=True))
        try:
            ray.init(**options)
        except Exception as error:  # Ray has no class of its own for it
            if "timed out during startup" not in str(error):
                raise
        else:
            return
        logger.warning("Ray has not started within 30 s: this machine is busy")
        for process in set(this.children(recursive=True)) - others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    raise ValueError(f"Ray has not started in {NUM_STARTS} tries of 30 s: this machine is too busy, or has too little memory")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
