"""gRPC channels and servers with the options that were measured to work.

``grpc.http2.ping_timeout_ms`` is what ends a connection to a frozen peer: the keep-alive time-out alone does not (its effect
is hidden by a 60 s default). Reconnects are capped explicitly because the built-in cap is two minutes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from studio_runtime.settings import Address

if TYPE_CHECKING:
    # What reads certificates takes 14 MB, which a process without any is spared.
    from studio_runtime.tls import ClientTls

Options = Sequence[tuple[str, int]]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

KEEPALIVE: Options = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CLIENT_OPTIONS: Options = (
    *KEEPALIVE,
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    # Control planes are reached directly; a proxy named for the outside would only break them.
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS: Options = (
    *KEEPALIVE,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A server of thousands of connections: no probing pings with every read (a quarter of its CPU), small buffers for TLS records
    # and no records for a debugger (20 KB of each connection).
    ("grpc.http2.bdp_probe", 0),
    ("grpc.tsi.max_frame_size", 4_096),
    ("grpc.enable_channelz", 0),
    # Two processes that share a port would each get half of the calls.
    ("grpc.so_reuseport", 0),
)


def open_channel(address: Address, tls: "ClientTls | None" = None) -> grpc.aio.Channel:
    """A channel to ``address``; it connects when it is first used. Without ``tls`` it is in clear text, as on loopback."""
    if tls is None:
        return grpc.aio.insecure_channel(str(address), options=CLIENT_OPTIONS)
    return grpc.aio.secure_channel(str(address), tls.credentials(), options=CLIENT_OPTIONS)


def make_server(interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> grpc.aio.Server:
    """A server without services or ports; every call goes through ``interceptors``."""
    return grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
