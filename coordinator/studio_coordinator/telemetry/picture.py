"""What one watcher has been shown, and what it is to be shown next. Pure.

The first picture is whole; after that only what changed. There is no queue: whoever reads slowly is shown less often.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio.v1.telemetry_service_pb2 import WatchTelemetryResponse

# A message of so many hosts stays well below the largest that is allowed, and takes some milliseconds to make.
HOSTS_AT_ONCE = 100
REPLICAS_AT_ONCE = 500


@dataclass(frozen=True)
class Rows:
    """What is stored of the fleet."""

    hosts: Sequence[Host]
    replicas: Sequence[Replica]
    deployments: Sequence[Deployment]

    def of_hosts(self, wanted: Collection[str]) -> "Rows":
        """What concerns the hosts with these names or ids."""
        found = [host for host in self.hosts if host.id in wanted or host.name in wanted]
        ids = {host.id for host in found}
        on_them = [replica for replica in self.replicas if replica.host_id in ids]
        names = {replica.deployment for replica in on_them}
        return Rows(found, on_them, [item for item in self.deployments if item.name in names])


Telemetry = Callable[[str], ReportTelemetryRequest]
Shown = tuple[object, object]


@dataclass
class Picture:
    """One watcher's picture: row and figures of everything that it was sent, by id."""

    _hosts: dict[str, Shown] = field(default_factory=dict)
    _replicas: dict[str, Shown] = field(default_factory=dict)
    _deployments: dict[str, Deployment] = field(default_factory=dict)
    _begun: bool = False

    def changes(self, rows: Rows, telemetry: Telemetry) -> Iterator[WatchTelemetryResponse]:
        """The messages that bring the watcher up to date; none when nothing changed. The first of all is ``complete``."""
        first = WatchTelemetryResponse(complete=not self._begun)
        first.removed_hosts.extend(_gone(self._hosts, (host.id for host in rows.hosts)))
        first.removed_replicas.extend(_gone(self._replicas, (row.id for row in rows.replicas)))
        first.removed_deployments.extend(_gone(self._deployments, (item.name for item in rows.deployments)))
        for item in rows.deployments:
            if self._deployments.get(item.name) != item:
                self._deployments[item.name] = item
                first.deployments.append(item)
        if first.ByteSize():
            yield first
        self._begun = True
        yield from self._replica_changes(rows.replicas, telemetry)
        yield from self._host_changes(rows.hosts, telemetry)

    def _host_changes(self, hosts: Sequence[Host], telemetry: Telemetry) -> Iterator[WatchTelemetryResponse]:
        message = WatchTelemetryResponse()
        for host in hosts:
            said = telemetry(host.id)
            known = self._hosts.get(host.id)
            if known is not None and known[1] == said and known[0] == host:
                continue
            self._hosts[host.id] = (host, said)
            shown = message.hosts.add()
            shown.CopyFrom(host)
            if known is not None:
                # What changes rarely is sent with the first picture only.
                shown.ClearField("facts")
                shown.ClearField("labels")
                shown.ClearField("models")
            if said.HasField("host"):
                shown.figures.CopyFrom(said.host)
            for gpu in shown.gpus:
                if gpu.uuid in said.gpus:
                    gpu.figures.CopyFrom(said.gpus[gpu.uuid])
            if len(message.hosts) == HOSTS_AT_ONCE:
                yield message
                message = WatchTelemetryResponse()
        if message.hosts:
            yield message

    def _replica_changes(self, replicas: Sequence[Replica], telemetry: Telemetry) -> Iterator[WatchTelemetryResponse]:
        message = WatchTelemetryResponse()
        for row in replicas:
            said = telemetry(row.host_id)
            known = self._replicas.get(row.id)
            if known is not None and known[1] == said and known[0] == row:
                continue
            self._replicas[row.id] = (row, said)
            shown = message.replicas.add()
            shown.CopyFrom(row)
            if row.id in said.replicas:
                shown.figures.CopyFrom(said.replicas[row.id])
            if len(message.replicas) == REPLICAS_AT_ONCE:
                yield message
                message = WatchTelemetryResponse()
        if message.replicas:
            yield message


def _gone(shown: Mapping[str, object], present: Iterator[str]) -> list[str]:
    """Forget what is no longer there; who it was."""
    gone = sorted(shown.keys() - set(present))
    for name in gone:
        del shown[name]  # type: ignore[attr-defined] # always a dict of the picture's own
    return gone
