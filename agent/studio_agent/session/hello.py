"""The first message: who this host is, what it has, what it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from studio.v1.agent_service_pb2 import Hello
from studio.v1.host_pb2 import CachedModel, EngineEnvironment, Gpu, HostFacts

from studio_agent.ledger import Ledger
from studio_agent.supervise import Supervisor

# The minor versions of the contract that this agent speaks.
PROTOCOL = 1
OLDEST_PROTOCOL = 1


@dataclass(frozen=True)
class HostIdentity:
    """What Hello says and the agent's life does not change, and where the rest is read."""

    host_id: str
    host_name: str
    boot_id: str
    agent_instance_id: str
    labels: Mapping[str, str]
    facts: Callable[[], HostFacts]
    gpus: Callable[[], list[Gpu]]
    engines: Callable[[], list[EngineEnvironment]]
    models: Callable[[], list[CachedModel]]

    def hello(self, ledger: Ledger, supervisor: Supervisor) -> Hello:
        """The message as of now."""
        return Hello(
            protocol=PROTOCOL,
            oldest_protocol=OLDEST_PROTOCOL,
            host_id=self.host_id,
            host_name=self.host_name,
            boot_id=self.boot_id,
            agent_instance_id=self.agent_instance_id,
            applied_generation=ledger.applied_generation,
            highest_term=ledger.highest_term,
            facts=self.facts(),
            gpus=self.gpus(),
            replicas=supervisor.snapshot(),
            labels=self.labels,
        )
