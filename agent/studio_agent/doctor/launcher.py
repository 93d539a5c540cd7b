"""Checks of what the chosen launcher needs."""

import asyncio
import os
import stat
from pathlib import Path

from studio_agent.doctor.finding import Finding, bad, note, ok
from studio_agent.launch import EngineCgroups, EngineGroup, LaunchError
from studio_agent.launch.cgroup import MOUNTS
from studio_agent.launch.engine_spec import SPECS
from studio_agent.launch.sharing import WORK_IN
from studio_agent.launch.systemctl import call
from studio_agent.launch.systemd import ENGINE_GROUP, unit_of
from studio_agent.settings import AgentSettings

TMPFILES = "Install systemd/vllm-studio-agent.tmpfiles.conf, then `systemd-tmpfiles --create`."
# The name of no engine: its unit is never started.
PROBE = unit_of("doctor")


async def check(settings: AgentSettings) -> Finding:
    """Everything the chosen launcher needs; the first that is missing."""
    if settings.launcher == "process":
        return await asyncio.to_thread(_process)
    return await asyncio.to_thread(_folders, settings.state.cache) or await _systemd()


def _process() -> Finding:
    cgroups = EngineCgroups.prepare("doctor")
    if cgroups.root is None:
        return note(
            "process, without cgroups", "Engines are told by session and environment; a cgroup would be certain."
        )
    return ok(f"process, with cgroups below {cgroups.root.parent}")


def _folders(cache: Path) -> Finding | None:
    """What is wrong with users and folders; None: nothing."""
    if not any((mount / "cgroup.procs").exists() for mount in MOUNTS):
        return bad("systemd, and no cgroup version 2", "Boot with systemd.unified_cgroup_hierarchy=1.")
    try:
        group = EngineGroup.named(ENGINE_GROUP)
    except LaunchError as error:
        return bad(error.message, error.hint)
    if group.gid not in os.getgroups():
        return bad(f"user {os.geteuid()} is no member of {ENGINE_GROUP}", "Run this as studio-agent.")
    if not os.access(SPECS, os.W_OK | os.X_OK):
        return bad(f"{SPECS} cannot be written", TMPFILES)
    seen = cache.stat() if cache.exists() else None
    if seen is None or seen.st_gid != group.gid or stat.S_IMODE(seen.st_mode) & WORK_IN != WORK_IN:
        return bad(f"{cache} is not shared with {ENGINE_GROUP}", TMPFILES)
    return None


async def _systemd() -> Finding:
    loaded = await call("show", "--property=LoadState", "--value", PROBE)
    if loaded.code or loaded.output.strip() != "loaded":
        return bad(
            f"systemd has no {unit_of('')}: {loaded.problem or loaded.output.strip()}",
            "Install the units of systemd/, then `systemctl daemon-reload`.",
        )
    # Stopping what does not run changes nothing, and is allowed only by the rule.
    allowed = await call("stop", "--", PROBE)
    if allowed.code:
        return bad(
            f"systemd would not do as it is asked: {allowed.problem}",
            "Install systemd/50-vllm-studio.rules below /etc/polkit-1/rules.d, and see that polkit runs.",
        )
    return ok(f"systemd, {unit_of('')} with polkit rule, users and folders")
