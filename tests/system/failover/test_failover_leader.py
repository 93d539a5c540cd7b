"""The leader dies, or is frozen past its lease: the other one leads, nothing accepted is lost, and nothing goes back."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest
from fakes.control_plane import LEASE_SECONDS, ControlPlane, CoordinatorDaemon
from studio.v1.admin_service_pb2 import ApplyRequest, GetStatusRequest, ListRecipesRequest
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio_runtime.channel import open_channel
from studio_runtime.errors import LEADER_KEY, NotLeadingError, from_rpc_error, leader_of

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_killed_leader_is_followed_by_the_other_and_a_stream_runs_through(plane: ControlPlane) -> None:
    await plane.settled(replicas=1)
    before = await plane.operator.ready()
    leader = await plane.leader()
    async with plane.writes(), asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(plane.stream(tokens=160))
        await asyncio.sleep(0.2)
        leader.send(signal.SIGKILL)
        await plane.settled(replicas=2)
    assert stream.result() == 160
    after = await plane.operator.ready()
    assert {(row.id, row.pid, row.restarts) for row in before} <= {(row.id, row.pid, row.restarts) for row in after}
    plane.check_that_no_term_went_back()


async def test_a_frozen_leader_that_wakes_up_after_its_lease_does_not_act(plane: ControlPlane) -> None:
    await plane.settled(replicas=1)
    leader = await plane.leader()
    known = len(leader.output())
    leader.send(signal.SIGSTOP)
    async with plane.writes():
        other = await plane.leader(other_than=leader)
        await plane.settled(replicas=2)
        highest = plane.accepted_terms()[-1]
        leader.send(signal.SIGCONT)
        # It learns that another leads, and ends; what comes up in its place stands by.
        await until_it_gave_up(leader, known)
        assert await plane.leader() is other
    await plane.settled(replicas=1)
    assert plane.accepted_terms()[-1][0] == highest[0]
    plane.check_that_no_term_went_back()


async def until_it_gave_up(coordinator: CoordinatorDaemon, known: int) -> None:
    async with asyncio.timeout(10 * LEASE_SECONDS):
        while "leads now, at term" not in coordinator.output()[known:]:
            await asyncio.sleep(0.05)


async def test_a_standby_serves_reads_and_names_the_leader_to_who_writes(plane: ControlPlane) -> None:
    leader = await plane.leader()
    (standby,) = [one for one in plane.coordinators if one is not leader]
    async with open_channel(standby.address) as channel:
        admin = AdminServiceStub(channel)
        assert not (await admin.GetStatus(GetStatusRequest(), wait_for_ready=True)).leader
        assert "slow" in {item.recipe.name for item in (await admin.ListRecipes(ListRecipesRequest())).recipes}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin.Apply(ApplyRequest(manifest="kind: Recipe\nname: x\nengine: {name: demo}\n"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (LEADER_KEY, str(leader.address)) in tuple(refused.value.trailing_metadata() or ())
    error = from_rpc_error(refused.value, "apply")
    assert isinstance(error, NotLeadingError)
    assert error.leader == leader_of(refused.value) == str(leader.address)


async def test_a_coordinator_with_another_key_pepper_does_not_start(plane: ControlPlane, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "studio_coordinator", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
        *("--state-dir", str(tmp_path / "third")),
        env=os.environ | {"STUDIO_DATABASE_URL": plane.postgres.embedded.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"key pepper is not the one" in said
    assert b"--key-pepper-file" in said


async def test_a_coordinator_with_another_master_key_does_not_start(plane: ControlPlane, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "studio_coordinator", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
        *("--state-dir", str(tmp_path / "third"), "--key-pepper-file", str(plane.folder / "shared-pepper")),
        env=os.environ | {"STUDIO_DATABASE_URL": plane.postgres.embedded.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"master key is not the one" in said
    assert b"--master-key-file" in said
