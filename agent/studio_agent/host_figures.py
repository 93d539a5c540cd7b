"""Facts and figures of the host. Figures are read in a thread: a stuck file system must not stop the loop."""

import os
import platform
import socket
from pathlib import Path

import psutil
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.host_pb2 import HostFacts, HostFigures


def host_facts(engine_address: str, models: Path, agent_version: str) -> HostFacts:
    """What does not change while the agent runs; environments and GPU driver are added by others.

    The disk is that of ``models``, a folder that need not be there yet: it is where disks fill up.
    """
    return HostFacts(
        hostname=socket.gethostname(),
        agent_version=agent_version,
        os=_os_name(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpu_count=psutil.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=psutil.disk_usage(str(_nearest(models))).total,
        engine_address=engine_address,
    )


def host_figures(models: Path, at: Timestamp) -> HostFigures:
    """One sample; ``cpu_share`` is over the time since the last one. What cannot be read stays absent."""
    figures = HostFigures(at=at)
    figures.cpu_share = psutil.cpu_percent(interval=None) / 100.0
    figures.memory_used_bytes = psutil.virtual_memory().used
    figures.load_1m = os.getloadavg()[0]
    try:
        figures.disk_free_bytes = psutil.disk_usage(str(_nearest(models))).free
    except OSError:
        figures.ClearField("disk_free_bytes")
    # Loopback is traffic within the host.
    counters = [io for name, io in psutil.net_io_counters(pernic=True).items() if name != "lo"]
    if counters:
        figures.network_received_bytes = sum(io.bytes_recv for io in counters)
        figures.network_sent_bytes = sum(io.bytes_sent for io in counters)
    return figures


def _nearest(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
