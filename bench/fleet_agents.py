"""Simulated agents in a process of their own: ``python bench/fleet_agents.py FILE``, where FILE is a ``Crew`` as JSON.

Each has one connection, one control stream and one telemetry stream, as a real agent does, with the real agent's back-off. It
acknowledges assignments and starts nothing. Prints a line of JSON whenever the number of connected agents has changed, at most
ten times a second.
"""

import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.protobuf.message import Message
from studio.v1.agent_service_pb2 import (
    AssignmentAck,
    ConnectRequest,
    ConnectResponse,
    Heartbeat,
    Hello,
    ObservationReport,
    ReportTelemetryRequest,
    Welcome,
)
from studio.v1.host_pb2 import Gpu, HostFacts
from studio_agent.session.reconnect import Backoff
from studio_runtime.channel import CLIENT_OPTIONS
from studio_runtime.settings import Address

GIB = 2**30
GPUS = 8
# Of each host; picked at random every second.
SAMPLES = 8
WELCOME_SECONDS = 30.0
# Of connecting for the first time.
SPREAD_SECONDS = 10.0


@dataclass(frozen=True)
class Crew:
    """What this process is to simulate."""

    coordinator: str
    hosts: int
    # Certificates of hosts, one JSON object a line: chain, key, authorities. Empty: no TLS.
    identities: str = ""

    def write(self, file: Path) -> None:
        """Write it to where the process looks for it."""
        file.write_text(json.dumps(asdict(self)))

    def credentials(self) -> list[grpc.ChannelCredentials | None]:
        """Of each host."""
        if not self.identities:
            return [None] * self.hosts
        lines = Path(self.identities).read_text().splitlines()[: self.hosts]
        return [
            grpc.ssl_channel_credentials(*(item[name].encode() for name in ("authorities", "key", "chain")))
            for item in map(json.loads, lines)
        ]


def host_id(number: int) -> str:
    """As its certificate names it."""
    return f"sim-{number:05}"


def a_sample(uuids: list[str], draw: random.Random) -> ReportTelemetryRequest:
    """Figures of a host that is busy: what moves, moves a little."""
    sample = ReportTelemetryRequest()
    sample.host.at.GetCurrentTime()
    sample.host.cpu_share = draw.uniform(0.2, 0.4)
    sample.host.memory_used_bytes = 200 * GIB + draw.randrange(GIB)
    sample.host.disk_free_bytes = 2000 * GIB
    sample.host.load_1m = draw.uniform(4, 6)
    sample.host.network_received_bytes = 10**12
    sample.host.network_sent_bytes = 10**12
    for uuid in uuids:
        gpu = sample.gpus[uuid]
        gpu.at.CopyFrom(sample.host.at)
        gpu.utilization_share = round(min(1.0, draw.gauss(0.9, 0.05)), 2)
        gpu.memory_used_bytes = 70 * GIB + draw.randrange(GIB // 64)
        gpu.power_watts = draw.gauss(550, 15)
        gpu.power_limit_watts = 700
        gpu.energy_millijoules = 10**12
        gpu.temperature_celsius = round(draw.gauss(60, 1))
        gpu.sm_clock_mhz = 1700 + 15 * draw.randrange(4)
        gpu.memory_clock_mhz = 2619
        gpu.ecc_uncorrected = 0
        gpu.remapped_rows = 0
    return sample


class SimulatedHost:
    """One agent, without a host."""

    def __init__(self, number: int, crew: Crew, credentials: grpc.ChannelCredentials | None) -> None:
        draw = random.Random(number)
        self._id = host_id(number)
        self._address = crew.coordinator
        self._credentials = credentials
        self._uuids = [f"GPU-{number:08x}-0000-4000-8000-{place:012x}" for place in range(GPUS)]
        self._samples = [a_sample(self._uuids, draw).SerializeToString() for _ in range(SAMPLES)]
        self._phase = draw.random()
        self._generation = 0
        self._term = 0
        self.connected = False
        self.failures = 0

    async def run(self, first_wait: float) -> None:
        """Stay connected, until cancelled."""
        backoff, loop = Backoff(random.uniform), asyncio.get_running_loop()
        await asyncio.sleep(first_wait)
        while True:
            began = loop.time()
            with suppress(grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError, EOFError):
                try:
                    await self._once()
                except* (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError, EOFError) as group:
                    raise _first(group) from None
            self.connected = False
            self.failures += 1
            await asyncio.sleep(backoff.next_wait(loop.time() - began))

    async def _once(self) -> None:
        async with self._channel() as channel:
            call = channel.stream_stream("/studio.v1.AgentService/Connect", _bytes, ConnectResponse.FromString)()
            try:
                await call.write(ConnectRequest(hello=self._hello()))
                async with asyncio.timeout(WELCOME_SECONDS):
                    first = await call.read()
                if first is grpc.aio.EOF:
                    raise EOFError
                self.connected = True
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(call, first.welcome))
                    tasks.create_task(self._beat(call, first.welcome))
                    tasks.create_task(self._report(channel, first.welcome))
            finally:
                call.cancel()

    def _channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options=CLIENT_OPTIONS)
        return grpc.aio.secure_channel(self._address, self._credentials, options=CLIENT_OPTIONS)

    def _hello(self) -> Hello:
        facts = HostFacts(
            hostname=self._id,
            agent_version="bench",
            os="Linux",
            cpu_count=128,
            memory_bytes=1024 * GIB,
            gpu_driver="595.45",
        )
        gpus = [
            Gpu(
                uuid=uuid,
                index=place,
                model="NVIDIA H100 80GB HBM3",
                memory_bytes=80 * GIB,
                health=Gpu.HEALTH_HEALTHY,
                compute_capability="9.0",
                pci_bus_id=f"00000000:{place:02X}:00.0",
                numa_node=place // 4,
                nvlink_peers=[peer for peer in self._uuids if peer != uuid],
            )
            for place, uuid in enumerate(self._uuids)
        ]
        return Hello(
            protocol=1,
            oldest_protocol=1,
            host_id=self._id,
            host_name=self._id,
            boot_id="bench",
            agent_instance_id=self._id,
            applied_generation=self._generation,
            highest_term=self._term,
            facts=facts,
            gpus=gpus,
            labels={"pool": "simulated"},
        )

    async def _listen(self, call: Any, welcome: Welcome) -> None:
        if welcome.HasField("assignment"):
            await self._accept(call, welcome.assignment)
        await call.write(ConnectRequest(observation=ObservationReport(applied_generation=self._generation)))
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.HasField("assignment"):
                await self._accept(call, message.assignment)
        raise EOFError

    async def _accept(self, call: Any, assignment: Any) -> None:
        self._generation, self._term = assignment.generation, assignment.term
        await call.write(ConnectRequest(assignment_ack=AssignmentAck(generation=self._generation)))

    async def _beat(self, call: Any, welcome: Welcome) -> None:
        interval = welcome.heartbeat_interval.ToNanoseconds() / 1e9
        await asyncio.sleep(interval * self._phase)
        sequence = 0
        while True:
            sequence += 1
            beat = Heartbeat(sequence=sequence, applied_generation=self._generation)
            await call.write(ConnectRequest(heartbeat=beat))
            await asyncio.sleep(interval)

    async def _report(self, channel: grpc.aio.Channel, welcome: Welcome) -> None:
        interval = welcome.telemetry_interval.ToNanoseconds() / 1e9
        call = channel.stream_unary("/studio.v1.AgentService/ReportTelemetry")()
        # Pieces of a message that follow one another are one message.
        session = ReportTelemetryRequest(session_epoch=welcome.session_epoch, host_id=self._id).SerializeToString()
        loop = asyncio.get_running_loop()
        due = loop.time() + interval * self._phase
        while True:
            await asyncio.sleep(due - loop.time())
            await call.write(session + self._samples[int(due) % SAMPLES])
            due = max(due + interval, loop.time())


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def tell(hosts: list[SimulatedHost]) -> None:
    """Say how many are connected, when it has changed."""
    told = -1
    while True:
        connected = sum(host.connected for host in hosts)
        if connected != told:
            told = connected
            line = {"connected": connected, "failures": sum(host.failures for host in hosts), "at": time.monotonic()}
            print(json.dumps(line), flush=True)
        await asyncio.sleep(0.1)


async def main(crew: Crew) -> None:
    """Run until killed."""
    hosts = [SimulatedHost(number, crew, given) for number, given in enumerate(crew.credentials())]
    spread = min(SPREAD_SECONDS, len(hosts) / 200)
    async with asyncio.TaskGroup() as tasks:
        for number, host in enumerate(hosts):
            tasks.create_task(host.run(spread * number / len(hosts)))
        tasks.create_task(tell(hosts))


if __name__ == "__main__":
    given = Crew(**json.loads(Path(sys.argv[1]).read_text()))
    Address.parse(given.coordinator)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(given))
