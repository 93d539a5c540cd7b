"""A coordinator for benchmarks: sends no table, and takes usage without looking at it. ``python bench/coordinator.py PORT``."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from studio.v1.route_service_pb2 import ReportUsageResponse

DONE = ReportUsageResponse().SerializeToString()


async def take_usage(_records: bytes, _context: Any) -> bytes:
    """Accept a batch."""
    return DONE


async def watch_routes(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """Keep the stream of tables open; the gateway has its tables from its last good copy."""
    async for _ in requests:
        # Nothing to send. The statement below makes this a generator.
        if not requests:
            yield b""


async def main(port: int) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    methods = {
        "ReportUsage": grpc.unary_unary_rpc_method_handler(take_usage),
        "WatchRoutes": grpc.stream_stream_rpc_method_handler(watch_routes),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("studio.v1.RouteService", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
