"""A deployment, a replica or a host told to a person: what it is, how it stands and why, and what happened last."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from studio.v1.deployment_pb2 import Deployment
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.replica_pb2 import Failure, Replica

from studio_cli import wording
from studio_cli.views.deployments import describe_range
from studio_cli.views.events import event_line, in_order
from studio_cli.views.gpus import what_lifts_it
from studio_cli.views.hosts import describe_labels, describe_memory
from studio_cli.views.replicas import busy, describe_gpus, natural
from studio_cli.views.rollout import between, phase_of
from studio_cli.views.starting import describe_replica, describe_retry
from studio_cli.views.states import deployment_state, gpu_health, host_state, part_state, replica_state

INDENT = "  "


def deployment_story(
    deployment: Deployment, replicas: Sequence[Replica], events: Sequence[Event], now: datetime
) -> Iterator[str]:
    """A deployment and its replicas."""
    spec = deployment.spec
    yield headline(deployment.name, "deployment", deployment_state(deployment), deployment.state_reason)
    pinned = "pinned" if spec.recipe_revision else "the newest"
    yield fact("recipe", f"{spec.recipe} r{deployment.target_revision} ({pinned})")
    if spec.aliases:
        yield fact("aliases", ", ".join(spec.aliases))
    ready = f"{deployment.ready_replicas} of {deployment.wanted_replicas} ready, {describe_range(spec)} allowed"
    yield fact("replicas", ready)
    for replica in sorted(replicas, key=lambda one: natural(one.id)):
        yield f"{INDENT * 2}{replica_line(replica, now)}"
        yield from failure_lines(replica, now, INDENT * 3)
    if deployment.rollout.phase:
        rollout = deployment.rollout
        yield fact("rollout", f"{between(rollout)} {phase_of(rollout)}: {rollout.reason}")
    changed = f"version {deployment.version}, {wording.age(deployment.updated_at, now)} ago"
    yield fact("changed", f"{changed} by {deployment.actor}" if deployment.actor else changed)
    if deployment.stopped:
        yield fact("next", f"studio start {deployment.name}")
    elif deployment.state == Deployment.STATE_ASLEEP:
        since = wording.age(deployment.rest_since, now)
        yield fact("next", f"asleep for {since}: a request wakes it, or studio wake {deployment.name}")
    yield from event_lines(events, now)


def replica_story(replica: Replica, hosts: Iterable[Host], events: Sequence[Event], now: datetime) -> Iterator[str]:
    """One replica."""
    reason = replica.retiring_reason if replica.retiring else replica.state_reason
    since = f" for {wording.age(replica.state_since, now)}" if replica.state_since.seconds else ""
    yield headline(replica.id, "replica", replica_state(replica) + since, reason)
    yield from failure_lines(replica, now, INDENT)
    if replica.HasField("progress"):
        yield fact("progress", describe_replica(replica, now))
    yield fact("serves", f"{replica.deployment}, recipe {replica.recipe_name} r{replica.recipe_revision}")
    yield fact("host", replica.host_name + (", rank 0" if replica.members else "") or wording.NOTHING)
    gpus = {gpu.uuid: gpu for one in hosts for gpu in one.gpus}
    yield fact("gpus", describe_gpus([gpus.get(uuid) for uuid in replica.gpu_uuids]))
    for member in replica.members:
        devices = f", GPU {describe_gpus([gpus.get(uuid) for uuid in member.gpu_uuids])}" if member.gpu_uuids else ""
        reason = f": {member.state_reason}" if member.state_reason else ""
        yield fact(f"rank {member.rank}", f"{member.host_name}{devices}, {part_state(member)}{reason}")
    if replica.pid:
        yield fact("engine", f"{replica.engine}, pid {replica.pid}, {replica.base_url}")
    if replica.loaded_adapters:
        yield fact("adapters", ", ".join(replica.loaded_adapters))
    requests, cache, rate = busy(replica.figures)
    yield fact("busy", f"running/waiting {requests}, KV cache {cache}, {rate} tokens/s")
    if replica.restarts:
        yield fact("restarts", str(replica.restarts))
    yield from event_lines(events, now)


def host_story(host: Host, replicas: Sequence[Replica], events: Sequence[Event], now: datetime) -> Iterator[str]:
    """A host, its GPUs and what runs there."""
    yield headline(host.name, "host", host_state(host) + (", cordoned" if host.cordoned else ""), host.state_reason)
    facts = host.facts
    yield fact("seen", f"{wording.age(host.last_seen, now)} ago; agent {facts.agent_version or 'of unknown version'}")
    cores = wording.count_of(facts.cpu_count, "core")
    yield fact("machine", f"{cores}, {describe_memory(host)} of memory, {facts.os or 'unknown system'}, {facts.kernel}")
    if host.labels:
        yield fact("labels", describe_labels(host.labels))
    if facts.engines:
        yield fact("engines", ", ".join(f"{one.engine} {one.version}" for one in facts.engines))
    driver = f", driver {facts.gpu_driver}" if facts.gpu_driver else ""
    yield fact("gpus", f"{len(host.gpus)}{driver}")
    for gpu in sorted(host.gpus, key=lambda one: one.index):
        yield f"{INDENT * 2}{gpu_line(host, gpu)}"
    yield fact("replicas", str(len(replicas)))
    for replica in sorted(replicas, key=lambda one: natural(one.id)):
        yield f"{INDENT * 2}{replica_line(replica, now)}"
    yield from event_lines(events, now)


def headline(name: str, kind: str, state: str, reason: str) -> str:
    """``big (deployment) PENDING: no host fits``."""
    return f"{name} ({kind}) {state}" + (f": {reason}" if reason else "")


def fact(name: str, value: str) -> str:
    """An indented line with a name of fixed width."""
    return f"{INDENT}{name:<10}{value}"


def replica_line(replica: Replica, now: datetime) -> str:
    """``chat-1  READY for 2h14m on gpu-03``."""
    state = replica_state(replica)
    since = f" for {wording.age(replica.state_since, now)}" if replica.state_since.seconds else ""
    if replica.state in (Replica.STATE_READY, Replica.STATE_SLEEPING, Replica.STATE_FAILED, Replica.STATE_LOST):
        place = f" on {replica.host_name}" if replica.host_name else ""
        return f"{replica.id}  {state}{since}{place}"
    return f"{replica.id}  {state}{since} {describe_replica(replica, now)}"


def failure_lines(replica: Replica, now: datetime, indent: str) -> Iterator[str]:
    """Why a replica failed, the engine's own words, and what to do."""
    if not replica.HasField("failure") or replica.state == Replica.STATE_READY:
        return
    failure: Failure = replica.failure
    code = f" (exit code {failure.exit_code})" if failure.HasField("exit_code") else ""
    yield f"{indent}{failure.reason}: {failure.message.rstrip('.')}{code}; {describe_retry(replica, now)}"
    if failure.cause_line:
        yield f"{indent}log: {failure.cause_line}"
    if failure.hint:
        yield f"{indent}{failure.hint}"


def gpu_line(host: Host, gpu: Gpu) -> str:
    """``0  NVIDIA H100, 12 GiB of 80 GiB, 43 %, 312 W, 61 °C``; what is unknown is left out."""
    figures = gpu.figures
    memory = wording.size(gpu.memory_bytes)
    parts = [
        gpu.model,
        f"{wording.size(figures.memory_used_bytes)} of {memory}" if figures.HasField("memory_used_bytes") else memory,
    ]
    if figures.HasField("utilization_share"):
        parts.append(f"{wording.share(figures.utilization_share)} busy")
    if figures.HasField("power_watts"):
        parts.append(f"{figures.power_watts:.0f} W")
    if figures.HasField("temperature_celsius"):
        parts.append(f"{figures.temperature_celsius:.0f} °C")
    if gpu.health not in (Gpu.HEALTH_HEALTHY, Gpu.HEALTH_UNSPECIFIED):
        parts.append(f"{gpu_health(gpu)}: {gpu.health_reason}")
    if what_next := what_lifts_it(host, gpu):
        parts.append(what_next)
    return f"{gpu.index}  {', '.join(parts)}"


def event_lines(events: Sequence[Event], now: datetime) -> Iterator[str]:
    """The last events under their own head."""
    if events:
        yield f"{INDENT}last events"
        yield from (f"{INDENT * 2}{event_line(event, now).plain}" for event in in_order(list(events)))
