"""Checks of the host itself."""

import asyncio
import contextlib
import ctypes
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import grpc
from studio_runtime.channel import open_channel
from studio_runtime.errors import StudioError
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

from studio_agent.doctor.finding import Finding, bad, note, ok
from studio_agent.errors import NoFreePortError
from studio_agent.gpu.sampler import GpuSampler, SamplerState
from studio_agent.settings import AgentSettings
from studio_agent.supervise.ports import choose_port

GB = 1_000_000_000
# Below it the agent cannot keep its ledger and logs; below the other one a model hardly fits.
LEAST_FREE_BYTES = 1 * GB
COMFORTABLE_FREE_BYTES = 50 * GB
REACH_SECONDS = 5.0
GPU_SECONDS = 10.0
# adjtimex(2): a struct timex fits, and the answer for a clock that nothing keeps.
TIMEX_BYTES = 512
TIME_ERROR = 5


def state_folder(settings: AgentSettings) -> Finding:
    """The agent must be able to write there."""
    folder = _existing(settings.state.root)
    if not os.access(folder, os.W_OK | os.X_OK):
        return bad(
            f"{folder} cannot be written by user {os.geteuid()}", "Run as the agent's user, or change its owner."
        )
    if folder != settings.state.root:
        return ok(f"{settings.state.root} will be made")
    return ok(str(folder))


def disk(settings: AgentSettings) -> Finding:
    """Room for logs and the ledger; for models and engine environments rather more."""
    folders = (_existing(settings.state.root), _existing(settings.engines_dir))
    free, folder = min((shutil.disk_usage(folder).free, folder) for folder in folders)
    seen = f"{free / GB:.0f} GB free at {folder}"
    if free < LEAST_FREE_BYTES:
        return bad(seen, "Free some space: the agent cannot keep its ledger and the engines' logs.")
    if free < COMFORTABLE_FREE_BYTES:
        return note(seen, "Enough to run, but models and engine environments need tens of GB.")
    return ok(seen)


def ports(settings: AgentSettings) -> Finding:
    """Engines need one port each."""
    ranged = f"{settings.engine_ports.first}-{settings.engine_ports.last} on {settings.engine_address}"
    try:
        choose_port(settings.engine_address, settings.engine_ports, ())
    except NoFreePortError as error:
        return bad(error.message, error.hint)
    except OSError as error:
        return bad(f"engines cannot listen on {settings.engine_address}: {error.strerror}", "Correct --engine-address.")
    return ok(f"{ranged} can be listened on")


def identity(settings: AgentSettings) -> Finding:
    """A coordinator on another machine takes only hosts that have joined."""
    folder = settings.state.identity
    if not folder.exists:
        return note("this host has not joined: it talks in clear text", "Beyond loopback: `studio-agent join`.")
    try:
        known = folder.load()
    except StudioError as error:
        return bad(error.message, error.hint)
    if known.not_after < datetime.now(UTC):
        return note(f"certificate ran out on {known.not_after:%Y-%m-%d %H:%M} UTC", "A running agent renews it.")
    return ok(f"host {known.name.id}, certificate until {known.not_after:%Y-%m-%d %H:%M} UTC")


def clock() -> Finding:
    """Certificates, leases and logs compare times of several hosts. The kernel knows, whatever program sets its clock."""
    # All zeros: nothing is set, the state is returned.
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    if state < 0:
        return note("whether it is synchronised cannot be told here", "See that NTP runs on this host.")
    if state == TIME_ERROR:
        return note("not synchronised", "Start a time service: systemd-timesyncd or chrony.")
    return ok("synchronised")


async def coordinator(address: Address, tls: ClientTls | None = None) -> Finding:
    """The agent dials out; nothing dials in."""
    async with open_channel(address, tls) as channel:
        state = channel.get_state(try_to_connect=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACH_SECONDS):
                while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                    await channel.wait_for_state_change(state)
                    state = channel.get_state()
    if state is grpc.ChannelConnectivity.READY:
        return ok(f"{address} answers")
    return bad(
        f"{address} does not answer",
        "Engines go on without it, but nothing new is placed here. Check address, route and firewall.",
    )


async def gpus() -> Finding:
    """Read once through the same child that the agent reads with, so a driver that hangs hangs there."""
    changed = asyncio.Event()
    async with GpuSampler(wake=changed.set) as sampler:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GPU_SECONDS):
                while sampler.state is SamplerState.STARTING:
                    await changed.wait()
                    changed.clear()
        if sampler.state is SamplerState.ABSENT:
            return note("no GPU driver", "Only engines that run on the CPU can be placed here.")
        if sampler.state is not SamplerState.RUNNING:
            return bad(
                sampler.reason or "the GPU driver does not answer", "`nvidia-smi` or `amd-smi`, and dmesg tell more."
            )
        sick = [f"{gpu.uuid}: {gpu.health_reason}" for gpu in sampler.gpus() if gpu.health_reason]
        seen = f"driver {sampler.driver_version}, {len(sampler.gpus())} GPUs"
        if sick:
            return note(f"{seen}; {'; '.join(sick)}", "What is quarantined gets no work until it is checked again.")
        return ok(seen)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder
