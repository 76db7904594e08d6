"""Whether a Ray cluster is there that the environment names, told in bounded time and by the name of the variable."""

import socket
import threading

import pytest

from ltdiff.system import ray_address
from ltdiff.system.ray_address import check_cluster, joins_cluster, named_cluster


@pytest.mark.parametrize(
    ("address", "expected"), [(None, ""), ("", ""), ("local", ""), ("auto", "auto"), ("10.0.0.1:6379", "10.0.0.1:6379")]
)
def test_a_cluster_is_joined_where_one_is_named(monkeypatch, address, expected):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert named_cluster() == expected
    assert joins_cluster() == bool(expected)


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield "ray://127.0.0.1:{1}".format(*server.getsockname())


@pytest.fixture
def foreign():
    """A server of something else."""
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")

        threading.Thread(target=answer, daemon=True).start()
        yield "127.0.0.1:{1}".format(*server.getsockname())
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "localhost:1", "nowhere.invalid:6379", "nonsense", "a b:c", "s3://bucket", ""]
)
def test_where_none_answers_the_variable_is_named(monkeypatch, address):
    monkeypatch.setattr(ray_address, "ANSWER_S", 0.5)
    with pytest.raises(ValueError, match=r"no Ray cluster answers at .*, which RAY_ADDRESS names \(\w+\): .* unset RAY_ADDRESS"):
        check_cluster(address)


@pytest.mark.parametrize("server", ["silent", "foreign"])
def test_what_is_no_ray_is_not_waited_for(monkeypatch, request, server):
    monkeypatch.setattr(ray_address, "ANSWER_S", 0.5)
    with pytest.raises(ValueError, match="which RAY_ADDRESS names"):
        check_cluster(request.getfixturevalue(server))
