"""The Prometheus endpoint of a daemon."""

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from studio_runtime.settings import Address


def serve_metrics(address: Address, registry: CollectorRegistry = REGISTRY) -> Address:
    """Serve ``/metrics`` from a thread of its own; port 0 takes a free one. Returns where it listens."""
    server, _thread = start_http_server(address.port, addr=address.host, registry=registry)
    return Address(address.host, server.server_port)
