"""States as words with a colour."""

from rich.text import Text
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.replica_pb2 import Replica, ReplicaMember

STYLES = {
    "READY": "green",
    "COMPLETE": "green",
    "PULLING": "yellow",
    "PAUSED": "cyan",
    "PARTIAL": "yellow",
    "CONNECTED": "green",
    "HEALTHY": "green",
    "PREPARING": "yellow",
    "STARTING": "yellow",
    "WAKING": "yellow",
    "PENDING": "yellow",
    "DEGRADED": "yellow",
    "SUSPECT": "yellow",
    "DRAINING": "cyan",
    "STOPPING": "cyan",
    "SLEEPING": "blue",
    "ASLEEP": "blue",
    "STOPPED": "dim",
    "FAILED": "bold red",
    "LOST": "bold red",
    "DISCONNECTED": "bold red",
    "QUARANTINED": "bold red",
}


def styled(name: str) -> Text:
    """A state's name in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def replica_state(replica: Replica) -> str:
    """``READY``."""
    return Replica.State.Name(replica.state).removeprefix("STATE_")


def part_state(member: ReplicaMember) -> str:
    """``READY``, of a part on another host."""
    return Replica.State.Name(member.state).removeprefix("STATE_")


def deployment_state(deployment: Deployment) -> str:
    """``READY``."""
    return Deployment.State.Name(deployment.state).removeprefix("STATE_")


def host_state(host: Host) -> str:
    """``CONNECTED``, and that it takes no new replicas where an operator said so."""
    return Host.State.Name(host.state).removeprefix("STATE_")


def gpu_health(gpu: Gpu) -> str:
    """``HEALTHY``."""
    return Gpu.Health.Name(gpu.health).removeprefix("HEALTH_")
