"""A coordinator for tests of the CLI: a real gRPC server over the fleet of ``fakes.admin_fleet``.

``refuse`` makes a method fail, ``calls`` records what was asked with which metadata. As a program it stands in for a coordinator.
"""

import argparse
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from fakes.admin_fleet import Call, Fleet
from studio.v1 import admin_service_pb2 as admin
from studio.v1.admin_service_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from studio.v1.host_pb2 import Host
from studio_runtime.channel import SERVER_OPTIONS
from studio_runtime.errors import StudioError, trailing_metadata

__all__ = ["Call", "Fleet", "admin_server"]


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def servicer(fleet: Fleet) -> AdminServiceServicer:
    """The generated servicer's methods, each leading to the fleet's method of the same name."""

    def unary(method: str) -> Callable[..., Any]:
        def answer(_self: object, request: Any, context: grpc.ServicerContext) -> Any:
            with fleet.lock, refusing(context):
                note(fleet, method, request, context)
                return getattr(fleet, snake(method))(request)
            return None

        return answer

    def streaming(method: str) -> Callable[..., Any]:
        def answer(_self: object, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with refusing(context):
                note(fleet, method, request, context)
                yield from getattr(fleet, snake(method))(request)

        return answer

    methods = admin.DESCRIPTOR.services_by_name["AdminService"].methods
    handlers = {one.name: (streaming if one.server_streaming else unary)(one.name) for one in methods}
    return type("FakeAdminServicer", (AdminServiceServicer,), handlers)()


def note(fleet: Fleet, method: str, request: Any, context: grpc.ServicerContext) -> None:
    metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    fleet.calls.append(Call(method, request, metadata))
    if fleet.refusals.get(method):
        raise fleet.refusals[method].pop(0)


@contextmanager
def refusing(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except StudioError as error:
        context.set_trailing_metadata(trailing_metadata(error))
        context.abort(error.code, error.message)


@contextmanager
def admin_server(fleet: Fleet, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Serve ``fleet``; yields the address."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=SERVER_OPTIONS)
    add_AdminServiceServicer_to_server(servicer(fleet), server)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def main() -> None:
    """A coordinator's process, as far as ``studio up`` can tell; its agent is always there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--deaf", action="store_true", help="ignores SIGTERM")
    arguments = parser.parse_args()
    host = Host(id="h1", name="lab-1", state=Host.STATE_CONNECTED)
    host.facts.cpu_count, host.facts.memory_bytes = 16, 62 * 2**30
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if arguments.deaf else stopped.set())
    with admin_server(Fleet(hosts=[host]), arguments.listen) as address:
        ready = {"pid": os.getpid(), "address": address, "metrics": "127.0.0.1:1"}
        partial = arguments.ready_file.with_suffix(".part")
        partial.write_text(json.dumps(ready), encoding="utf-8")
        partial.replace(arguments.ready_file)
        stopped.wait()
