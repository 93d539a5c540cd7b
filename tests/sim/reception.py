"""The side of a coordinator that its peers talk to: the real registries of sessions and gateways, and a pump for each stream."""

from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import Heartbeat, Hello, ObservationReport
from studio.v1.host_pb2 import Host
from studio.v1.route_service_pb2 import TableAck, TrafficReport
from studio_coordinator.gateways import GatewaySession
from studio_coordinator.sessions import Session
from studio_runtime.errors import UnavailableError

from sim.ledger import TIMERS
from sim.network import Stream

if TYPE_CHECKING:
    from sim.gateway import SimulatedGateway
    from sim.host import SimulatedHost
    from sim.leader import Life, SimulatedCoordinator
    from sim.story import Story

# Silence after which the transport ends a stream.
STREAM_SECONDS = 40.0
GATEWAY_STREAM_SECONDS = 8.0


class Reception:
    def __init__(self, story: "Story", process: "SimulatedCoordinator", life: "Life") -> None:
        self._story, self._process, self._life = story, process, life
        self._streams: list[Stream] = []
        # The newest of each gateway, and when it was last heard.
        self._gateways: dict[str, tuple[GatewaySession, Stream]] = {}
        self._heard_at: dict[str, float] = {}

    def close(self) -> None:
        """The process is gone, and with it all its connections."""
        for stream in self._streams:
            stream.close()

    def hears(self, host_id: str) -> bool:
        sessions = self._life.sessions.all()
        return any(one.host_id == host_id and one.silence_seconds() < TIMERS.lease for one in sessions)

    def drop_the_silent(self) -> None:
        for session in self._life.sessions.all():
            if session.silence_seconds() > STREAM_SECONDS:
                self._life.sessions.ended(session)
        for name, heard_at in list(self._heard_at.items()):
            if self._story.schedule.now - heard_at > GATEWAY_STREAM_SECONDS:
                del self._heard_at[name]
                self._hang_up(*self._gateways.pop(name))

    def keep_last_seen(self) -> None:
        rows = self._story.database.rows
        for session in self._life.sessions.all():
            row = Host()
            row.CopyFrom(rows.hosts[session.host_id])
            row.last_seen.CopyFrom(self._stamp(session.silence_seconds()))
            rows.hosts[session.host_id] = row

    # -- hosts ---------------------------------------------------------------------------------------------------

    def greet(self, host: "SimulatedHost", hello: Hello) -> None:
        """`AgentService._open`: the session is stored and opened, and what the host should run goes out with the welcome."""
        if not self._life.leads:
            return
        try:
            rows = self._story.database.reach()
        except UnavailableError:
            return
        epoch = rows.session_epochs[host.id] = rows.session_epochs.get(host.id, 0) + 1
        row = Host()
        row.CopyFrom(rows.hosts[host.id])
        row.state, row.state_reason = Host.STATE_CONNECTED, ""
        row.last_seen.CopyFrom(self._stamp(0))
        rows.hosts[host.id] = row
        session = Session(host.id, host.name, epoch, lambda: self._story.schedule.now)
        session.applied_generation, session.highest_term = hello.applied_generation, hello.highest_term
        session.replicas.replicas.extend(hello.replicas)
        stream = Stream(self._story.network, self._process.name, host.name)
        stream.on_close.append(lambda: self._process.receive(lambda life: life.sessions.ended(session)))
        self._streams.append(stream)
        document = rows.assignments.get(host.id)
        if document is not None:
            session.sent(document.generation)
        term = self._life.term
        stream.send(host.name, lambda: host.welcome(self._process, stream, session, document, term))
        self._life.sessions.opened(session)
        self._life.start(self._tell_host(host, session, stream))

    async def _tell_host(self, host: "SimulatedHost", session: Session, stream: Stream) -> None:
        async for message in session.outgoing():
            await self._process.thawed.wait()
            if message.HasField("assignment"):
                stream.send(host.name, lambda document=message.assignment: host.offer(document))
        stream.close()

    def heartbeat(self, session: Session, heartbeat: Heartbeat) -> None:
        session.heard(heartbeat)

    def observation(self, session: Session, report: ObservationReport) -> None:
        session.observed(report)
        self._life.sessions.changed.set()

    # -- gateways ------------------------------------------------------------------------------------------------

    def open_routes(self, gateway: "SimulatedGateway") -> None:
        if not self._life.leads:
            return
        if gateway.name in self._gateways:
            self._hang_up(*self._gateways.pop(gateway.name))
        session = self._life.gateways.opened(gateway.name)
        stream = Stream(self._story.network, self._process.name, gateway.name)
        stream.on_close.append(lambda: self._process.receive(lambda life: life.gateways.ended(session)))
        self._streams.append(stream)
        self._gateways[gateway.name] = session, stream
        self._heard_at[gateway.name] = self._story.schedule.now
        stream.send(gateway.name, lambda: gateway.connected(self._process, stream, session))
        self._life.start(self._tell_gateway(gateway, session, stream))

    async def _tell_gateway(self, gateway: "SimulatedGateway", session: GatewaySession, stream: Stream) -> None:
        async for message in self._life.gateways.tables(session):
            await self._process.thawed.wait()
            if message.HasField("routes"):
                stream.send(gateway.name, lambda table=message.routes: gateway.offer(stream, table))

    def acknowledgement(self, session: GatewaySession, ack: TableAck) -> None:
        self._note(session)
        self._life.gateways.acknowledged(session, ack)

    def traffic(self, session: GatewaySession, report: TrafficReport) -> None:
        self._note(session)
        self._life.gateways.reported(session, report)

    def _note(self, session: GatewaySession) -> None:
        if self._gateways.get(session.gateway_id, (None, None))[0] is session:
            self._heard_at[session.gateway_id] = self._story.schedule.now

    def _hang_up(self, session: GatewaySession, stream: Stream) -> None:
        stream.close()
        if session.gone_since is None:
            self._life.gateways.ended(session)

    def _stamp(self, age: float) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._life.wall() - timedelta(seconds=age))
        return stamp
