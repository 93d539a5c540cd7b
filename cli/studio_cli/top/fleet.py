"""The picture that a stream of changes adds up to."""

from dataclasses import dataclass, field

from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio.v1.telemetry_service_pb2 import WatchTelemetryResponse


@dataclass
class Fleet:
    """Everything that is known now, by id or name."""

    hosts: dict[str, Host] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)

    def take(self, change: WatchTelemetryResponse) -> None:
        """Bring the picture up to date. What changes rarely is only said once of a host, and kept."""
        if change.complete:
            self.hosts.clear()
            self.replicas.clear()
            self.deployments.clear()
        for host in change.hosts:
            known = self.hosts.get(host.id)
            if known is not None:
                if not host.HasField("facts"):
                    host.facts.CopyFrom(known.facts)
                if not host.labels:
                    host.labels.update(known.labels)
            self.hosts[host.id] = host
        self.replicas.update((row.id, row) for row in change.replicas)
        self.deployments.update((item.name, item) for item in change.deployments)
        for name in change.removed_hosts:
            self.hosts.pop(name, None)
        for name in change.removed_replicas:
            self.replicas.pop(name, None)
        for name in change.removed_deployments:
            self.deployments.pop(name, None)
