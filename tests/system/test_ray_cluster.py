"""One Ray for a block: joined where there is one, started and stopped where there is none, refused where it is too small."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import psutil
import pytest
import ray
from grpc import channel_ready_future, insecure_channel
from mlflow_servers import free_port
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from ltdiff.system import private_ray
from ltdiff.system.private_ray import ADDRESS_VARIABLE, OBJECT_STORE_BYTES, make_folder, restore_umask
from ltdiff.system.ray_address import NO_PROXY
from ltdiff.system.ray_cluster import CLUSTER_WAIT_S, on_node, ray_session
from ltdiff.system.ray_reaper import find_marked
from ltdiff.system.resources import environment, num_cores

pytestmark = pytest.mark.ray


def private_folder() -> Path:
    return Path(ray._private.worker._global_node.get_temp_dir_path()).parent


@pytest.fixture(scope="module")
def session():
    """A local Ray with GPUs that exist as permits only, started where the environment wants no authentication."""
    before, on_sigterm = os.umask(0o022), signal.getsignal(signal.SIGTERM)
    with environment({"RAY_AUTH_MODE": "disabled"}), ray_session(num_cpus=3, num_gpus=2, dashboard=True):
        folder = private_folder()
        yield
    os.umask(before)
    assert not ray.is_initialized()  # what was started here was stopped
    assert not folder.exists()
    assert find_marked(str(folder)) == []
    assert signal.getsignal(signal.SIGTERM) == on_sigterm  # not Ray's, which makes it exit code 15


@pytest.mark.usefixtures("session")
def test_it_has_what_was_asked_for():
    resources = ray.cluster_resources()
    assert (resources["CPU"], resources["GPU"]) == (3, 2)
    assert resources["object_store_memory"] <= OBJECT_STORE_BYTES
    assert os.umask(0o022) == 0o022  # the stricter mask was for Ray's start alone


@pytest.mark.usefixtures("session")
def test_a_session_inside_joins_and_leaves_it_running():
    with ray_session(num_cpus=2, num_gpus=1):
        assert ray.cluster_resources()["CPU"] == 3
    assert ray.is_initialized()


@pytest.mark.usefixtures("session")
def test_what_depends_on_a_gpu_is_asked_where_there_is_one():
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
    assert on_node(partial(os.getenv, "CUDA_VISIBLE_DEVICES"), num_gpus=1) in ("0", "1")


@pytest.mark.usefixtures("session")
def test_what_is_raised_on_a_node_comes_out_as_it_is():
    with pytest.raises(ValueError, match=r"^invalid literal for int\(\) with base 10: 'four'$"):
        on_node(partial(int, "four"))


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("needed", "named"),
    [({"num_cpus": 4}, "4 logical CPUs, .* has 3"), ({"num_cpus": 1, "num_gpus": 3}, "3 logical GPUs, .* has 2")],
)
def test_too_small_a_cluster_is_refused_at_once(needed, named):
    with pytest.raises(ValueError, match=named), ray_session(**needed):
        pytest.fail("a job would wait here for ever")


@pytest.mark.usefixtures("session")
def test_an_error_in_the_block_comes_out():
    with pytest.raises(ZeroDivisionError), ray_session(num_cpus=1):
        raise ZeroDivisionError
    assert ray.is_initialized()


@pytest.mark.usefixtures("session")
def test_nobody_else_can_enter_its_folder():
    assert private_folder().stat().st_mode & 0o777 == 0o700
    assert private_folder().stat().st_uid == os.geteuid()


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("token", [None, "another"])
def test_without_its_token_nobody_is_answered(token):
    """Whatever the environment said when it started."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address, [("grpc.enable_http_proxy", 0)]) as channel:
        nodes = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            nodes.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=30, metadata=metadata)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.usefixtures("session")
def test_it_listens_on_loopback_alone():
    processes = [psutil.Process(), *find_marked(str(private_folder()))]
    sockets = [one for process in processes for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert len(processes) > 3
    assert len(sockets) > 3
    assert {one.laddr.ip.removeprefix("::ffff:") for one in sockets} == {"127.0.0.1"}


@pytest.mark.usefixtures("session")
def test_workers_write_files_by_the_users_own_mask():
    def masks() -> tuple[int, int]:
        inherited = os.umask(0)
        restore_umask()
        return inherited, os.umask(0)

    assert ray.get(ray.remote(masks).remote()) == (0o077, 0o022)


@pytest.mark.usefixtures("session")
def test_its_processes_ask_this_ray_and_no_other_about_their_actors(monkeypatch):
    """Whatever address another Ray has left on this machine."""

    @ray.remote(num_cpus=0)
    class Alive:
        def find_itself(self):
            from ray.util.state import get_actor

            return get_actor(ray.get_runtime_context().get_actor_id(), timeout=30).state

    assert ray.get(Alive.remote().find_itself.remote(), timeout=60) == "ALIVE"
    assert ADDRESS_VARIABLE not in os.environ  # of this process, which may talk to others


WAITING = """
import ray
from ltdiff.system.ray_cluster import ray_session

@ray.remote
def wait():
    import time
    time.sleep(600)

with ray_session(num_cpus=1):
    ray.get(wait.remote())
"""


def wait_for_descendant(process: subprocess.Popen, name: str) -> list[psutil.Process]:
    """All descendants of a process, as soon as one of them has a name that begins so.

    Ray calls a worker by its task. What the task prints would tell it too, but Ray now and then loses a line on its way here.
    """
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # one ended just now
            found = psutil.Process(process.pid).children(recursive=True)
            if any(one.name().startswith(name) for one in found):
                return found
    pytest.fail(f"it ended before there was a {name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gcs_server", "raylet", "ray::IDLE", "ray::wait"])
def test_killed_at_whatever_moment_nothing_of_it_stays_alive(name):
    """As soon as a process of that name is there: from the first of Ray's own to the one that does the work."""
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process:
        found = wait_for_descendant(process, name)
        process.kill()
    _, alive = psutil.wait_procs(found, timeout=60)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"TMPDIR": "{long}"}, r"TMPDIR is .*, a path too long for Ray's sockets: set RAY_TMPDIR to a folder"),
        ({"TMPDIR": "/tmp", "RAY_TMPDIR": "{long}"}, r"RAY_TMPDIR is .*, a path too long for Ray's sockets"),
        ({"RAY_TMPDIR": "/nowhere"}, r"set RAY_TMPDIR to one that can be written \(No such file or directory\)"),
        ({"RAY_TMPDIR": "/proc"}, r"set RAY_TMPDIR to one that can be written"),
    ],
)
def test_a_folder_that_its_sockets_cannot_have_is_named_by_its_variable(tmp_path, monkeypatch, variables, sentence):
    long = tmp_path / "slurm_jobdir_of_a_user_with_a_long_name" / "1355700"
    long.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(long=long))
    with pytest.raises(ValueError, match=sentence):
        make_folder()
    assert list(long.iterdir()) == []


def test_told_to_stop_it_ends_by_its_exit_code_without_a_trace():
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with process:
        descendants = wait_for_descendant(process, "ray::wait")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        said = process.stderr.read()
    assert "ending at SIGTERM" in said
    assert "SIGTERM received" not in said  # Ray's stack
    assert "Traceback" not in said
    assert descendants
    _, alive = psutil.wait_procs(descendants, timeout=20)
    assert [one.name() for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


SLOW = """
import threading
import psutil
import ray
from ltdiff.system.ray_cluster import ray_session

def stop_the_first():
    while not (found := [one for one in psutil.Process().children() if one.name() == "raylet"]):
        pass
    found[0].suspend()

threading.Thread(target=stop_the_first).start()
with ray_session(num_cpus=1, takes_all_cores=True):
    print(ray.cluster_resources()["CPU"])
"""


@pytest.mark.slow
def test_where_its_processes_start_too_slowly_it_tries_again():
    """The first raylet stands still, as on a machine that has no time for it, so that Ray gives up after 30 s."""
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True)
    assert done.returncode == 0
    assert float(done.stdout.splitlines()[-1]) == num_cores()
    assert "Ray has not started within 30 s" in done.stderr


@pytest.mark.parametrize("num_found", [0, 2])
def test_workers_that_have_their_gpus_or_find_none_at_all_are_started(monkeypatch, num_found):
    monkeypatch.setattr("torch.cuda.device_count", lambda: num_found)
    private_ray._check_gpus(2)


GROWING = """
import ray
from ltdiff.system.progress import configure_logging
from ltdiff.system.ray_cluster import ray_session

configure_logging()
with ray_session(num_cpus=3):
    print(ray.cluster_resources()["CPU"])
"""


@pytest.fixture
def small_cluster():
    """A head with one logical CPU: its address, and a function that adds a node."""
    port = free_port()
    variables = os.environ | {"RAY_AUTH_MODE": "disabled"}
    started = []

    def start(*options):
        ray = Path(sys.executable).with_name("ray")
        command = [ray, "start", "--block", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", *options]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=variables, start_new_session=True, **streams))

    start("--head", "--include-dashboard=false", f"--port={port}", "--num-cpus=1")
    address = f"127.0.0.1:{port}"
    with insecure_channel(address, NO_PROXY) as channel:
        channel_ready_future(channel).result(60)
    yield variables | {"RAY_ADDRESS": address}, lambda: start(f"--address={address}", "--num-cpus=2")
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)  # at SIGTERM a head waits for half a minute
        process.wait()


@pytest.mark.parametrize("grows", [True, False])
def test_a_cluster_that_is_too_small_has_time_to_grow(small_cluster, grows):
    """As where an autoscaler begins with a head alone."""
    variables, add_node = small_cluster
    variables = variables | {CLUSTER_WAIT_S: "120" if grows else "0"}
    command = [sys.executable, "-c", GROWING]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = iter(process.stderr.readline, "")
        assert any("3 logical CPUs and 0 GPUs are asked of its autoscaler" in line for line in lines)
        if grows:
            add_node()
        stdout, stderr = process.communicate(timeout=150)
    assert stdout == ("3.0\n" if grows else "")
    assert grows or "this job needs 3 logical CPUs, the Ray cluster has 1" in stderr


TOO_FEW_GPUS = """
import torch
from ltdiff.system.ray_cluster import ray_session

torch.cuda.device_count = lambda: 1
with ray_session(num_cpus=1, num_gpus=2):
    print("one worker would compute on the CPU")
"""


def test_more_workers_than_gpus_are_refused():
    ended = subprocess.run([sys.executable, "-c", TOO_FEW_GPUS], capture_output=True, text=True, check=False)
    assert "ValueError: this job needs 2 GPUs, PyTorch finds 1" in ended.stderr
    assert ended.stdout == ""
