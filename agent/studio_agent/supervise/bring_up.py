"""From an assigned replica to a started engine: program, model, port, command, note, process."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import StartProgress
from studio_runtime.process import write_atomically

from studio_agent.engines import driver_for, environ
from studio_agent.engines.base import Driver, LaunchContext
from studio_agent.engines.flag_list import FlagList
from studio_agent.engines.inquiry.installed_flags import flags_of
from studio_agent.engines.inquiry.model_directory import facts_at
from studio_agent.engines.model_facts import ModelFacts
from studio_agent.engines.typed_args import local_path
from studio_agent.ledger_format import decode_record, encode_record
from studio_agent.logfiles import prepare_log
from studio_agent.models.start import resolve_models
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.secrets import wanted
from studio_agent.settings import StateFolder
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.memory_release import memory_before
from studio_agent.supervise.ports import choose_port


@dataclass(frozen=True)
class Prepared:
    """What is known once everything an engine needs is on this host."""

    driver: Driver
    program: tuple[str, ...]
    # As assigned, with paths on this host in place of names on a hub.
    recipe: Recipe
    model_path: str
    model: ModelFacts | None
    known_flags: FlagList | None
    # Of the engine's environment; never in a record, a note or a log.
    secret_env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Order:
    """An engine that is fully described and not started."""

    engine: Engine
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    files: Mapping[PurePath, bytes]


async def prepare(equipment: Equipment, assigned: AssignedReplica, report: Callable[[StartProgress], None]) -> Prepared:
    """Bring the engine's program and the model to this host. Raises StudioError."""
    recipe, settings = assigned.recipe, equipment.settings
    driver = driver_for(recipe.engine.name)
    program = await equipment.engines.program(recipe.engine, report)
    needed = wanted(recipe)

    def waiting(why: str) -> None:
        report(StartProgress(phase=StartProgress.PHASE_DOWNLOAD, detail=why))

    async def token() -> str:
        # Asked for only where something is fetched: what is here already needs none.
        names = frozenset({needed.token} - {""})
        return (await equipment.secrets.obtain(names, waiting)).get(needed.token, "")

    model_path, recipe = await resolve_models(equipment.models, recipe, report, token)
    # Asking an engine for its flags takes seconds, and says something about `extra_args` only.
    known_flags = await flags_of(driver.name, program, settings.engines_dir) if recipe.extra_args else None
    facts = await asyncio.to_thread(facts_at, model_path)
    # As late as can be: downloads take hours, and the value may have been changed meanwhile.
    values = await equipment.secrets.obtain(frozenset(needed.environment.values()), waiting)
    secret_env = {variable: values[name] for variable, name in needed.environment.items()}
    return Prepared(driver, program, recipe, model_path, facts, known_flags, secret_env)


def describe(equipment: Equipment, record: ReplicaRecord, prepared: Prepared) -> Order:
    """Choose a port and build the command. Raises StudioError or OSError."""
    settings, assigned = equipment.settings, record.assigned
    records = equipment.ledger.records.values()
    others = {r.engine.port for r in records if r.engine is not None} | {r.assigned.group.leader_port for r in records}
    port = choose_port(settings.engine_address, settings.engine_ports, others | set(record.taken_ports))
    room = equipment.gpu_room(assigned.gpu_uuids)
    spec = prepared.driver.launch_spec(
        prepared.recipe,
        LaunchContext(
            program=prepared.program,
            host=settings.engine_address,
            port=port,
            model_path=prepared.model_path,
            model_names=tuple(assigned.model_names),
            gpu_uuids=tuple(assigned.gpu_uuids),
            gpu_memory_bytes=assigned.gpu_memory_bytes,
            cache_dir=settings.state.cache,
            process_label=record.replica_id,
            gpu_total_bytes=room.total_bytes,
            gpu_free_bytes=room.free_bytes,
            gpu_vendor=equipment.gpus.vendor,
            known_flags=prepared.known_flags,
            model=prepared.model,
            group=assigned.group if assigned.HasField("group") else None,
        ),
    )
    token = f"{record.replica_id}.{record.generation}.{secrets.token_hex(6)}"
    log_path = settings.state.log(record.replica_id)
    engine = Engine(
        token=token,
        port=port,
        boot_id=equipment.boot_id,
        log_path=str(log_path),
        log_offset=prepare_log(log_path),
        argv_digest=hashlib.sha256("\0".join(spec.argv).encode()).hexdigest(),
        cgroup=equipment.launcher.cgroup_for(token),
        started_at=equipment.now(),
        gpu_unowned_bytes=memory_before(equipment, assigned.gpu_uuids),
        adapters={adapter.name: local_path(adapter.source) for adapter in prepared.recipe.lora},
    )
    return Order(engine, spec.argv, environ.with_recipe(spec.env, prepared.secret_env), spec.files)


def write_files(order: Order) -> None:
    """Write what the engine reads beside its command. Raises OSError."""
    for path, content in order.files.items():
        # The group is the agent's own, or that of the engines' user, who must read it.
        write_atomically(Path(path), content, mode=0o640)


def write_note(state: StateFolder, record: ReplicaRecord) -> None:
    """Leave a second copy of the record beside the engine's log, for the day the ledger is unreadable. Raises OSError."""
    write_atomically(state.launch_note(record.replica_id), json.dumps(encode_record(record)).encode())


def read_note(state: StateFolder, token: str) -> ReplicaRecord | None:
    """The record of the start that ``token`` belongs to; None when there is no such note, or it is damaged."""
    replica_id = token.rsplit(".", 2)[0]
    try:
        record = decode_record(json.loads(Path(state.launch_note(replica_id)).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if record.engine is not None and record.engine.token == token else None
