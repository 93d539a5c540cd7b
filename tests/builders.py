"""Contract messages that are valid by default; a test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import AgentEvent, Hello
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.deployment_pb2 import Deployment, DeploymentSpec
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu, Host, HostFacts
from studio.v1.recipe_pb2 import EngineChoice, IntOrAuto, ModelSource, Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import ApiKey, Endpoint, ProviderRoute, Route, RouteTable, UsageRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GIB = 2**30


def a_moment(seconds: float = 0) -> Timestamp:
    """``NOW`` and so many seconds."""
    moment = Timestamp()
    moment.FromDatetime(NOW + timedelta(seconds=seconds))
    return moment


def a_recipe(name: str = "tiny", max_model_len: int = 0, **fields: Any) -> Recipe:
    fields.setdefault("engine", EngineChoice(name="vllm"))
    fields.setdefault("model", ModelSource(source="hf://example/tiny"))
    recipe = Recipe(name=name, **fields)
    if max_model_len:
        recipe.args.max_model_len.CopyFrom(IntOrAuto(value=max_model_len))
    return recipe


def a_demo_recipe(name: str = "demo", **fields: Any) -> Recipe:
    return a_recipe(name, engine=EngineChoice(name="demo"), model=ModelSource(), **fields)


def a_deployment_spec(name: str = "chat", recipe: str = "tiny", **fields: Any) -> DeploymentSpec:
    return DeploymentSpec(name=name, recipe=recipe, **fields)


def a_deployment(name: str = "chat", **fields: Any) -> Deployment:
    fields.setdefault("spec", a_deployment_spec(name))
    fields.setdefault("target_revision", 1)
    fields.setdefault("version", 1)
    return Deployment(name=name, **fields)


def a_gpu(uuid: str = "GPU-0", index: int = 0, **fields: Any) -> Gpu:
    fields.setdefault("model", "NVIDIA H100 80GB HBM3")
    fields.setdefault("memory_bytes", 80 * GIB)
    fields.setdefault("health", Gpu.HEALTH_HEALTHY)
    return Gpu(uuid=uuid, index=index, **fields)


def a_host(name: str = "lab-1", **fields: Any) -> Host:
    fields.setdefault("state", Host.STATE_CONNECTED)
    facts = HostFacts(hostname=name, cpu_count=16, memory_bytes=64 * GIB, features=["groups"])
    fields.setdefault("facts", facts)
    return Host(id=f"id-{name}", name=name, version=1, **fields)


def a_hello(host_name: str = "lab-1", *gpus: Gpu, **fields: Any) -> Hello:
    fields.setdefault("boot_id", "boot-1")
    fields.setdefault("agent_instance_id", "agent-1")
    fields.setdefault("facts", HostFacts(hostname=host_name, cpu_count=16, memory_bytes=64 * GIB))
    return Hello(protocol=1, oldest_protocol=1, host_name=host_name, gpus=gpus, **fields)


def a_replica(id: str = "chat-1", **fields: Any) -> Replica:  # noqa: A002 - the contract's word
    fields.setdefault("deployment", id.rpartition("-")[0])
    fields.setdefault("recipe_name", "tiny")
    fields.setdefault("recipe_revision", 1)
    fields.setdefault("state", Replica.STATE_PENDING)
    fields.setdefault("state_since", a_moment())
    fields.setdefault("generation", 1)
    fields.setdefault("engine", "vllm")
    return Replica(id=id, **fields)


def an_assignment(generation: int = 1, *replica_ids: str, **fields: Any) -> Assignment:
    replicas = [
        AssignedReplica(replica_id=replica_id, generation=1, recipe=a_recipe(), wish=AssignedReplica.WISH_RUN)
        for replica_id in replica_ids
    ]
    return Assignment(generation=generation, term=1, replicas=replicas, **fields)


def an_event(kind: str = "replica.failed", at_seconds: float = 0, **fields: Any) -> Event:
    fields.setdefault("severity", Event.SEVERITY_INFO)
    fields.setdefault("message", "something happened")
    return Event(kind=kind, at=a_moment(at_seconds), **fields)


def an_agent_event(sequence: int, **fields: Any) -> AgentEvent:
    return AgentEvent(sequence=sequence, event=an_event(**fields))


def a_route_table(version: int = 1, **fields: Any) -> RouteTable:
    endpoint = Endpoint(replica_id="chat-1", base_url="http://127.0.0.1:8000", weight=1)
    fields.setdefault("routes", [Route(model="chat", endpoints=[endpoint])])
    return RouteTable(version=version, term=1, **fields)


def a_key(id: str = "k1", **fields: Any) -> ApiKey:  # noqa: A002 - the contract's word
    fields.setdefault("hash", b"\x00\xff" * 16)
    fields.setdefault("name", "laptop")
    fields.setdefault("version", 1)
    return ApiKey(id=id, created_at=a_moment(), **fields)


def a_provider(model: str = "gpt-5", **fields: Any) -> ProviderRoute:
    fields.setdefault("provider_model", f"openai/{model}")
    fields.setdefault("api_key_env", "OPENAI_API_KEY")
    return ProviderRoute(model=model, **fields)


def a_usage_record(request_id: str = "r1", at_seconds: float = 0, **fields: Any) -> UsageRecord:
    fields.setdefault("model", "chat")
    fields.setdefault("key_id", "k1")
    fields.setdefault("status", 200)
    fields.setdefault("finish", "stop")
    return UsageRecord(request_id=request_id, at=a_moment(at_seconds), path="/v1/chat/completions", **fields)
