"""A small Ray of this machine's own, for as long as it is needed: nobody else can talk to it, and nothing of it stays behind."""

import gc
import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from ltdiff.system import ray_reaper
from ltdiff.system.resources import environment
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
UMASK_VARIABLE = "LTDIFF_UMASK"
"""Environment variable with the user's umask, for the processes of a private Ray."""
OBJECT_STORE_BYTES, STORE_BYTES_PER_CPU = 1 << 30, 96 << 20
"""Enough for the blocks in flight, at least and for each logical CPU; Ray's own default takes 30 % of the machine's memory."""
NUM_STARTS = 3
"""Tries of 30 s; how long one is cannot be set."""
RAY_FOLDER = "r"
"""In a folder of the user's own: Ray opens its folders to everybody."""
MAX_FOLDER_BYTES = 107 - len("/r/session_2026-11-28_20-43-16_123456_1234567/sockets/plasma_store.1")
"""The path of a Unix socket has at most 107 bytes, of which Ray takes the rest for itself."""


@contextmanager
def private_ray(num_cpus: int, num_gpus: int, *, dashboard: bool, options: Mapping[str, Any]) -> Iterator[None]:
    """Have a Ray on this machine inside the block. Its folder is the user's alone and is removed; its token is made for it.

    Raises:
        ValueError: it did not start; there are GPUs, but too few; there is no folder for its sockets.
    """
    _check_gpus(num_gpus)
    folder = make_folder()
    port = _free_port() if dashboard else None
    with _reaper(folder):
        logger.info("starting a local Ray with %d logical CPUs", num_cpus)
        # Ray makes files that everybody may read unless the umask forbids it.
        previous = os.umask(0o077)
        variables = {
            ray_reaper.MARK: str(folder),
            "SPT_NOENV": "1",  # without it the names that Ray gives its processes would cover the mark
            UMASK_VARIABLE: f"{previous:o}",
            "TMPDIR": str(folder),  # its processes have sockets there too, and leave nothing behind
            # whatever the environment says: who can reach a Ray without a token can run code
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        if dashboard:
            # Ray Train's own actors do not know which Ray they run in: they would ask the one whose address was last left on this
            # machine whether their controller is alive, and that may be gone, or somebody else's.
            variables[ADDRESS_VARIABLE] = f"http://127.0.0.1:{port}"
        try:
            with environment(variables), _on_loopback():
                _read_authentication()
                _start_patiently(
                    address="local",  # a private one, also where somebody else's runs, or has left its address behind
                    num_cpus=num_cpus,
                    num_gpus=num_gpus or None,
                    object_store_memory=max(OBJECT_STORE_BYTES, STORE_BYTES_PER_CPU * num_cpus),
                    include_dashboard=dashboard,
                    dashboard_host="127.0.0.1",
                    dashboard_port=port,
                    _temp_dir=str(folder / RAY_FOLDER),
                    **options,
                )
        finally:
            os.umask(previous)
        try:
            with shutting_down():
                yield
        finally:
            _read_authentication()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that is started listen on 127.0.0.1 alone, as it does of itself on macOS, where it makes no clusters."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def shutting_down() -> Iterator[None]:
    """Leave Ray when the block ends, however it ends.

    What is left of a finished training or search refers to objects of Ray. Where the garbage collector finds them in another
    thread while Ray shuts down, Ray ends the whole process, without a traceback.
    """
    try:
        yield
    finally:
        gc.collect()
        ray.shutdown()


def restore_umask() -> None:
    """Restore the user's umask in a worker: a private Ray is started with one that lets nobody else read."""
    if UMASK_VARIABLE in os.environ:
        os.umask(int(os.environ[UMASK_VARIABLE], 8))


def make_folder() -> Path:
    """Make a folder that is the user's alone, and whose path is short enough for Ray's sockets.

    Raises:
        ValueError: the folder for temporary files cannot be written, or has too long a path; the sentence names its variable.
    """
    variable = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    try:
        folder = Path(tempfile.mkdtemp(prefix="ltdiff-", dir=os.environ.get("RAY_TMPDIR")))
    except OSError as error:
        reason = f"set {variable} to one that can be written ({error.strerror})"
        raise ValueError(f"Ray needs a folder for its sockets: {reason}") from error
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        folder.rmdir()
        raise ValueError(
            f"{variable} is {printable(folder.parent)}, a path too long for Ray's sockets: set RAY_TMPDIR to a folder whose path "
            f"has at most {MAX_FOLDER_BYTES - len(folder.name) - 1} characters, such as /tmp"
        )
    return folder


@contextmanager
def _reaper(folder: Path) -> Iterator[None]:
    """Have a process that ends what is left of the Ray in `folder`, and removes it, when the block or this process has ended."""
    command = [sys.executable, ray_reaper.__file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield  # afterwards its input is closed, and it is waited for


def _read_authentication() -> None:
    """Have Ray's C++ part read again from the environment whether and with which token it authenticates."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


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
