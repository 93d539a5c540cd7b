"""A database that was restored from a backup, and hosts that have seen newer: nothing moves until an operator says so."""

import asyncio

import grpc
from fakes.agent import FakeAgent, until
from studio.v1.admin_service_pb2 import AcceptStateRequest, GetStatusRequest, ListEventsRequest
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import Hello, ReplicaObservation
from studio.v1.replica_pb2 import Replica

AHEAD = Hello(
    protocol=1,
    oldest_protocol=1,
    host_id="id-h1",
    host_name="h1",
    applied_generation=40,
    highest_term=7,
    replicas=[ReplicaObservation(replica_id="old-1", generation=1, state=Replica.STATE_READY)],
)


async def test_an_accept_goes_above_all_that_hosts_have_seen(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    agent = await FakeAgent(channel, "h1").open(AHEAD)
    try:
        events = await admin.ListEvents(ListEventsRequest())
        assert "host.ahead" in {event.kind for event in events.events}
        before = (await admin.GetStatus(GetStatusRequest())).term
        assert before < 7

        told = await admin.AcceptState(AcceptStateRequest(dry_run=True))
        assert (await admin.GetStatus(GetStatusRequest())).term == before, "a dry run changes nothing"
        done = await admin.AcceptState(AcceptStateRequest())
        assert done == told
        assert done.term > 7
        (host,) = done.hosts
        assert (host.host, host.applied_generation, list(host.unknown_replicas)) == ("h1", 40, ["old-1"])
        assert host.generation > 40

        # And the leader goes on in its new term, as one that others follow.
        status = await admin.GetStatus(GetStatusRequest())
        assert (status.leader, status.term) == (True, done.term)
    finally:
        agent.hang_up()


async def test_what_is_accepted_is_handed_out_at_once(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    agent = await FakeAgent(channel, "h1").open(AHEAD)
    listening = asyncio.create_task(agent.run())
    try:
        done = await admin.AcceptState(AcceptStateRequest())
        await until(lambda: agent.assignment.term == done.term)
        assert agent.assignment.generation == done.hosts[0].generation
        assert agent.assignment.stops_confirmed
        assert not agent.assignment.replicas
    finally:
        agent.hang_up()
        listening.cancel()
