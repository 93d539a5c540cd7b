"""A fleet that has joined serves; its authority is replaced under a stream; a revoked host is out, and its engine goes on."""

import asyncio
from pathlib import Path

import psutil
import pytest
from fakes.tls_fleet import HOSTS, TlsFleet, eventually, running_tls_fleet, streaming

MANIFEST = """\
kind: Recipe
name: slow
engine: {name: demo}
args: {demo: {tokens_per_second: 20}}
---
kind: Deployment
name: slow
recipe: slow
replicas: {min: 2, max: 2}
placement: {spread: host}
"""


# Three steps of a rotation, each of which nodes take up within seconds of their own choice.
@pytest.mark.timeout(240)
async def test_a_fleet_on_certificates(tmp_path: Path) -> None:
    async with running_tls_fleet(tmp_path) as fleet:
        secret = await serve(fleet)
        first = (await fleet.told("authority", "show"))[0]["fingerprint"]
        await rotate_under_a_stream(fleet, secret)
        await all_certificates_are_new(fleet, first)
        await revoke(fleet, secret)


async def serve(fleet: TlsFleet) -> str:
    code, _, error = await fleet.studio("apply", "-f", "-", "--no-wait", stdin=MANIFEST)
    assert code == 0, error
    await eventually(lambda: ready_on(fleet, set(HOSTS)))
    return str((await fleet.told("keys", "create", "test"))["secret"])


async def ready_on(fleet: TlsFleet, hosts: set[str]) -> bool:
    rows = await fleet.told("ps")
    return {row["host_name"] for row in rows if row["state"] == "READY"} == hosts


async def rotate_under_a_stream(fleet: TlsFleet, secret: str) -> None:
    assert fleet.gateway is not None
    pids = engine_pids(fleet)
    async with streaming(fleet.gateway.url, secret, "slow", 2000) as response:
        assert response.status == 200, await response.text()
        await response.content.readline()
        for _ in range(3):
            # It waits for the nodes that a step would cut off, and says which.
            await eventually(lambda: rotated(fleet))
        for _ in range(20):
            assert (await response.content.readline()) != b"", "the stream broke"
    assert engine_pids(fleet) == pids
    # No control stream broke either.
    for agent in fleet.agents.values():
        assert agent.output().count('"session_open"') == 1
        assert '"session_lost"' not in agent.output()


async def rotated(fleet: TlsFleet) -> bool:
    code, _, error = await fleet.studio("authority", "rotate")
    assert code in (0, 5), error
    assert code == 0 or "would cut nodes off" in error
    return code == 0


async def all_certificates_are_new(fleet: TlsFleet, first: str) -> None:
    authorities = await fleet.told("authority", "show")
    assert [one["phase"] for one in authorities] == ["SIGNING"]
    assert authorities[0]["fingerprint"] != first
    assert authorities[0]["identities"] == 3

    def stored() -> bool:
        # The last step is heard of a moment after it is taken.
        known = [fleet.identity(name).load() for name in (*HOSTS, "gateway")]
        return all((one.signed_by, one.trusted) == (authorities[0]["fingerprint"], {one.signed_by}) for one in known)

    await eventually(lambda: asyncio.to_thread(stored))
    # What is dialled anew is believed on both sides.
    agent = fleet.agents["h1"]
    await agent.kill()
    await agent.start()
    await eventually(lambda: asyncio.sleep(0, '"session_open"' in agent.output().rpartition('"agent_ready"')[2]))


async def revoke(fleet: TlsFleet, secret: str) -> None:
    assert fleet.gateway is not None
    engines = engine_pids(fleet)
    code, out, error = await fleet.studio("hosts", "revoke", "h2", "--reason", "sold", "--yes")
    assert code == 0, error
    assert "sold" in out
    await eventually(lambda: asyncio.sleep(0, "is refused: sold" in fleet.agents["h2"].output()))
    assert all(psutil.pid_exists(pid) for pid in engines), "engines do not depend on certificates"
    async with streaming(fleet.gateway.url, secret, "slow", 5) as response:
        assert (await response.read()).decode().rstrip().endswith("data: [DONE]")
    listed = {row["name"]: row for row in await fleet.told("hosts", "identities")}
    assert listed["h2"]["locked_reason"] == "sold"
    await fleet.join("h2")
    await eventually(
        lambda: asyncio.sleep(0, '"session_open"' in fleet.agents["h2"].output().rpartition("is refused: sold")[2])
    )
    assert engine_pids(fleet) == engines


def engine_pids(fleet: TlsFleet) -> set[int]:
    return {pid for agent in fleet.agents.values() for pid in agent.engine_processes()}
