"""Runs the checks at once; one that hangs or breaks is a finding of its own and holds up no other."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from studio_runtime.errors import StudioError
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

from studio_agent.doctor import engines, host, launcher
from studio_agent.doctor.finding import Finding, bad
from studio_agent.settings import AgentSettings

CHECK_SECONDS = 15.0


async def examine(settings: AgentSettings, coordinators: Sequence[Address]) -> list[tuple[str, Finding]]:
    """Every check's name and finding, in the order in which they should be mended."""
    tls = _tls(settings)
    checks: Mapping[str, Awaitable[Finding]] = {
        "state folder": asyncio.to_thread(host.state_folder, settings),
        "disk": asyncio.to_thread(host.disk, settings),
        "launcher": launcher.check(settings),
        "gpus": host.gpus(),
        "engines": asyncio.to_thread(engines.environments, settings),
        "ports": asyncio.to_thread(host.ports, settings),
        "clock": asyncio.to_thread(host.clock),
        "identity": asyncio.to_thread(host.identity, settings),
        **{_way_to(address, coordinators): host.coordinator(address, tls) for address in coordinators},
    }
    findings = await asyncio.gather(*map(_bounded, checks.values()))
    return list(zip(checks, findings, strict=True))


def _tls(settings: AgentSettings) -> ClientTls | None:
    """What the agent would dial with; what is wrong with it is another finding."""
    try:
        return settings.state.identity.tls()
    except StudioError:
        return None


def _way_to(address: Address, coordinators: Sequence[Address]) -> str:
    return "coordinator" if len(coordinators) == 1 else f"coordinator {address}"


async def _bounded(check: Awaitable[Finding]) -> Finding:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except TimeoutError:
        return bad(f"no answer within {CHECK_SECONDS:.0f} s", "Something on this host hangs; see dmesg.")
    except Exception as error:  # noqa: BLE001 - a check that breaks is a finding
        return bad(f"the check itself failed: {error!r}", "Please report this.")
