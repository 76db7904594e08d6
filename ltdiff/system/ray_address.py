"""The Ray cluster that the environment names, told without importing Ray, which takes seconds."""

import os
import sys

from ltdiff.system.text import quoted

RAY_ADDRESS = "RAY_ADDRESS"
"""Environment variable, set in a submitted job; `local` and nothing name no cluster."""

ANSWER_S = 10.0
"""How long a cluster may take to answer."""
NO_PROXY = [("grpc.enable_http_proxy", 0)]
"""As Ray itself: a proxy of the environment would answer in the cluster's place."""


def named_cluster() -> str:
    """The address of the cluster that `RAY_ADDRESS` names; "" where it names none."""
    address = os.environ.get(RAY_ADDRESS, "")
    return "" if address == "local" else address


def joins_cluster() -> bool:
    """Return True if a session would join a cluster or a Ray that this process has started, not start a private one."""
    ray = sys.modules.get("ray")
    return bool(named_cluster()) or (ray is not None and ray.is_initialized())


def check_cluster(address: str) -> None:
    """Ask the cluster at `address` whether it is there. `ray.init` itself would try for a quarter of an hour.

    Raises:
        ValueError: it does not answer, or refuses the token; the sentence names the variable.
    """
    import grpc
    from ray._private import services
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    try:
        if "://" in address:  # Ray Client
            with init_grpc_channel(address.partition("://")[2], NO_PROXY) as channel:
                grpc.channel_ready_future(channel).result(ANSWER_S)
        else:
            with init_grpc_channel(services.canonicalize_bootstrap_address(address), NO_PROXY) as channel:
                nodes = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
                nodes.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=ANSWER_S)
    except Exception as error:  # of gRPC, of Ray, of the socket
        reason = error.code().name if isinstance(error, grpc.RpcError) else type(error).__name__
        raise ValueError(
            f"no Ray cluster answers at {quoted(address)}, which {RAY_ADDRESS} names ({reason}): "
            f"start it, or unset {RAY_ADDRESS} to work on this machine alone"
        ) from error
