"""Fleet stories: a fleet and wishes in plain text, and the plan for them in plain text.

    host gpu-01..03  8 x H100 80GiB  rack=a        hosts alike, with labels after the GPUs
    gpu gpu-01 0-3   nvlink | numa=1 | quarantined=XID_79 | process=python:41213:alice:18GiB | mig=3g.40gb:40GiB:2
    state gpu-02     cordoned | suspect | driver=550.54 | capability=7.0 | memory=64GiB:40GiB | weights=hf://a/b | old-agent
    deployment big   gpus=8 memory=70GiB priority=100 replicas=2 share=0.3 models=H100,A100 spread=pack
                     hosts=gpu-01 pins=gpu-01:0,1 apart=chat label=rack:a engine=sglang version=0.5.9 ram=64GiB source=hf://a/b
                     span=2 (hosts of one replica)
    running chat-1   gpu-01 0,1 served=3600 | starting | leaving | also=gpu-02

The answer has a line for each replica that is new, is moved on, or has to leave.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from builders import NOW, a_moment
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.deployment_pb2 import Deployment, DeploymentSpec
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import RouteTable
from studio_coordinator.plan.members import parts
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.snapshot import HostObservation, Snapshot

SEPARATOR = "\n=>\n"
MODELS = {"H100": "NVIDIA H100 80GB HBM3", "A100": "NVIDIA A100-SXM4-80GB", "T4": "Tesla T4", "4090": "NVIDIA RTX 4090"}


@dataclass
class Story:
    hosts: dict[str, Host] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    recipes: dict[tuple[str, int], Recipe] = field(default_factory=dict)
    replicas: list[Replica] = field(default_factory=list)
    weights: dict[str, set[str]] = field(default_factory=dict)

    def answer(self) -> str:
        """The plan, as text."""
        return "\n".join(self._tell())

    def _tell(self) -> Iterator[str]:
        decided = plan(self.snapshot())
        before = {row.id: row for row in self.replicas}
        for row in sorted((*decided.inserted, *decided.updated), key=lambda row: row.id):
            if row.retiring and not before[row.id].retiring:
                yield f"{row.id} leaves {row.host_name}: {row.retiring_reason}"
            elif row.host_id and row.id not in before:
                devices = {gpu.uuid: gpu for gpu in self.hosts[row.host_name].gpus}
                gpus = [_short(devices[uuid]) for uuid in row.gpu_uuids]
                where = f" GPU {','.join(gpus)}" if gpus else ""
                yield f"{row.id} -> {row.host_name}{where}: {row.state_reason.partition(': ')[2]}"
                for member in row.members:
                    devices = {gpu.uuid: gpu for gpu in self.hosts[member.host_name].gpus}
                    gpus = [_short(devices[uuid]) for uuid in member.gpu_uuids]
                    yield f"    rank {member.rank} -> {member.host_name} GPU {','.join(gpus)}"
            elif not row.host_id:
                first, *more = row.state_reason.split("; ")
                yield f"{row.id} waits: {first}"
                yield from (f"    {part}" for part in more)

    def snapshot(self) -> Snapshot:
        observations = {}
        for host in self.hosts.values():
            reports = {
                row.id: ReplicaObservation(replica_id=row.id, generation=1, state=row.state)
                for row in self.replicas
                if any(part.host_id == host.id for part in parts(row))
            }
            age = 12.0 if host.state == Host.STATE_SUSPECT else 0.0
            observations[host.id] = HostObservation(1, 0, reports, age)
        return Snapshot(
            now=NOW,
            term=1,
            leading_for_seconds=1000,
            hosts=list(self.hosts.values()),
            observations=observations,
            deployments=list(self.deployments.values()),
            recipes=self.recipes,
            replicas=self.replicas,
            assignments={},
            table=RouteTable(),
            acknowledged_version=0,
            models_on_hosts=self.weights,
        )


def read(path: Path) -> tuple[Story, str]:
    """The story of a file, and the answer that it expects."""
    told, _, expected = path.read_text().partition(SEPARATOR)
    return parse(told), expected.strip()


def parse(text: str) -> Story:
    story = Story()
    for line in text.splitlines():
        # A line that begins a story with # says what it is about.
        word, *rest = line.partition("#")[0].split() or [""]
        if word:
            {"host": _host, "gpu": _gpu, "state": _state, "deployment": _deployment, "running": _running}[word](
                story, rest
            )
    return story


def _names(text: str) -> list[str]:
    first, _, last = text.partition("..")
    stem = first.rstrip("0123456789")
    digits = first[len(stem) :]
    return [first] if not last else [f"{stem}{n:0{len(digits)}}" for n in range(int(digits), int(last) + 1)]


def _bytes(text: str) -> int:
    return int(float(text.removesuffix("GiB")) * 2**30)


def _indexes(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(part) for part in text.split(",")]


def _short(gpu: Gpu) -> str:
    return f"{gpu.index}" + (f".{gpu.uuid.rpartition('.')[2]}" if gpu.parent_uuid else "")


def _host(story: Story, rest: Sequence[str]) -> None:
    names, *others = rest
    labels = dict(other.split("=") for other in others if "=" in other)
    gpus = [other for other in others if "=" not in other]
    for name in _names(names):
        host = Host(id=f"id-{name}", name=name, state=Host.STATE_CONNECTED, labels=labels, last_seen=a_moment())
        host.facts.features.append("groups")
        if gpus:
            count, _, model, memory = gpus
            for index in range(int(count)):
                host.gpus.add(
                    uuid=f"GPU-{name}-{index}",
                    index=index,
                    model=MODELS[model],
                    memory_bytes=_bytes(memory),
                    compute_capability={"T4": "7.5"}.get(model, "9.0"),
                )
        story.hosts[name] = host


def _gpu(story: Story, rest: Sequence[str]) -> None:
    name, indexes, *facts = rest
    host = story.hosts[name]
    chosen = [gpu for gpu in host.gpus if gpu.index in _indexes(indexes)]
    for fact in facts:
        key, _, value = fact.partition("=")
        for gpu in chosen:
            if key == "nvlink":
                gpu.nvlink_peers.extend(other.uuid for other in chosen if other is not gpu)
            elif key == "numa":
                gpu.numa_node = int(value)
            elif key == "quarantined":
                gpu.health, gpu.health_reason = Gpu.HEALTH_QUARANTINED, value.replace("_", " ")
            elif key == "process":
                command, pid, user, memory = value.split(":")
                gpu.figures.processes.add(command=command, pid=int(pid), user=user, memory_used_bytes=_bytes(memory))
            elif key == "mig":
                profile, memory, count = value.split(":")
                for number in range(int(count)):
                    host.gpus.add(
                        uuid=f"MIG-{name}-{gpu.index}.{number}",
                        index=gpu.index,
                        model=f"{gpu.model} MIG {profile}",
                        memory_bytes=_bytes(memory),
                        parent_uuid=gpu.uuid,
                    )
            else:
                raise ValueError(fact)


def _state(story: Story, rest: Sequence[str]) -> None:
    names, *facts = rest
    for host in (story.hosts[name] for name in _names(names)):
        for fact in facts:
            key, _, value = fact.partition("=")
            if key in {"cordoned", "old-agent"}:
                host.cordoned = host.cordoned or key == "cordoned"
                host.facts.features[:] = [] if key == "old-agent" else host.facts.features
            elif key == "suspect":
                host.state, host.state_reason = Host.STATE_SUSPECT, "no heartbeat for 12 s"
            elif key == "driver":
                host.facts.gpu_driver = value
            elif key == "capability":
                for gpu in host.gpus:
                    gpu.compute_capability = value
            elif key == "memory":
                total, used = value.split(":")
                host.facts.memory_bytes, host.figures.memory_used_bytes = _bytes(total), _bytes(used)
            elif key == "weights":
                story.weights.setdefault(host.id, set()).add(value)
            else:
                raise ValueError(fact)


def _deployment(story: Story, rest: Sequence[str]) -> None:
    name, *facts = rest
    recipe = Recipe(name=name)
    recipe.engine.name = "vllm"
    deployment = Deployment(name=name, target_revision=1, created_at=a_moment())
    deployment.spec.name = deployment.spec.recipe = name
    deployment.spec.replicas.min = 1
    for key, _, value in (fact.partition("=") for fact in facts):
        (_RECIPE[key](recipe, value) if key in _RECIPE else _SPEC[key](deployment.spec, value))
    story.deployments[name] = deployment
    story.recipes[name, 1] = recipe


def _pins(spec: DeploymentSpec, value: str) -> None:
    host, _, indexes = value.partition(":")
    spec.placement.gpus.extend(f"GPU-{host}-{index}" for index in _indexes(indexes))


_RECIPE: dict[str, Callable[[Recipe, str], object]] = {
    "gpus": lambda recipe, value: setattr(recipe.resources.gpu.count, "value", int(value)),
    "memory": lambda recipe, value: setattr(recipe.resources.gpu.memory, "bytes", _bytes(value)),
    "share": lambda recipe, value: setattr(recipe.resources.gpu, "share", float(value)),
    "models": lambda recipe, value: recipe.resources.gpu.model.extend(value.split(",")),
    "span": lambda recipe, value: setattr(recipe.resources, "hosts", int(value)),
    "ram": lambda recipe, value: setattr(recipe.resources, "host_memory_bytes", _bytes(value)),
    "engine": lambda recipe, value: setattr(recipe.engine, "name", value),
    "version": lambda recipe, value: setattr(recipe.engine, "version", value),
    "source": lambda recipe, value: setattr(recipe.model, "source", value),
}
_SPEC: dict[str, Callable[[DeploymentSpec, str], object]] = {
    "replicas": lambda spec, value: setattr(spec.replicas, "min", int(value)),
    "priority": lambda spec, value: setattr(spec, "priority", int(value)),
    "spread": lambda spec, value: setattr(spec.placement, "spread", value),
    "hosts": lambda spec, value: spec.placement.hosts.extend(value.split(",")),
    "pins": _pins,
    "apart": lambda spec, value: spec.placement.anti_affinity.extend(value.split(",")),
    "label": lambda spec, value: spec.placement.labels.update([value.split(":")]),
}


def _running(story: Story, rest: Sequence[str]) -> None:
    name, host, indexes, *facts = rest
    row = Replica(
        id=name,
        deployment=name.rpartition("-")[0],
        recipe_name=name.rpartition("-")[0],
        recipe_revision=1,
        host_id=f"id-{host}",
        host_name=host,
        gpu_uuids=[f"GPU-{host}-{index}" for index in _indexes(indexes)],
        state=Replica.STATE_READY,
        engine_ready=True,
        generation=1,
    )
    since = NOW - timedelta(hours=1)
    for key, _, value in (fact.partition("=") for fact in facts):
        if key == "served":
            since = NOW - timedelta(seconds=float(value))
        elif key == "starting":
            row.state, row.engine_ready = Replica.STATE_STARTING, False
        elif key == "also":
            row.members.add(
                rank=1,
                host_id=f"id-{value}",
                host_name=value,
                gpu_uuids=[f"GPU-{value}-{index}" for index in _indexes(indexes)],
                state=row.state,
            )
        elif key == "leaving":
            row.retiring, row.retiring_reason, row.state = True, "it was stopped", Replica.STATE_DRAINING
        else:
            raise ValueError(key)
    row.state_since.FromDatetime(since)
    story.replicas.append(row)
