"""What starts of engines measured, in place of what was predicted, for the next estimate of the same recipe."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.replica_pb2 import MeasuredMemory, Replica
from studio_runtime.errors import StudioError

from studio_coordinator.leadership import Leadership
from studio_coordinator.plan.members import gpu_count
from studio_coordinator.plan.memory.calibration import Calibration, Measured
from studio_coordinator.plan.memory.engine_rules import TESTED_VERSION
from studio_coordinator.plan.presets import effective
from studio_coordinator.plan.sizing import OnGpus
from studio_coordinator.sessions import Session, SessionRegistry
from studio_coordinator.store import measured_memory, recipes, replicas
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.wakeup import Wakeup

log = structlog.get_logger()

POLL_SECONDS = 5.0
PEAK, KV = "gpu_peak_bytes", "kv_bytes"
# Without these the peak, which is a sum, says nothing of its parts.
ENOUGH = frozenset({"weights_bytes", "activation_bytes", KV})
# Field of the measurement to part of the estimate.
PARTS = {
    "weights_bytes": "weights",
    "activation_bytes": "activation",
    "graphs_bytes": "graphs",
    "context_bytes": "buffers",
}
# Replica, start of its engine.
Start = tuple[str, int]


class Measurements:
    """Calibrations by recipe digest, engine version, and GPUs, as far as starts were measured."""

    def __init__(self, database: Database, leadership: Leadership, sessions: SessionRegistry) -> None:
        # Set when an estimate may have changed.
        self.changed = Wakeup()
        # Counts changes: equal numbers mean that no calibration moved in between.
        self.version = 0
        self._database = database
        self._leadership = leadership
        self._sessions = sessions
        self._calibrations: dict[tuple[str, str], dict[OnGpus, Calibration]] = {}
        self._recorded: dict[Start, bytes] = {}

    def calibrations(self, recipe_digest: str, engine_version: str) -> Mapping[OnGpus, Calibration]:
        """What is known of a recipe, by number and model of a replica's GPUs."""
        return self._calibrations.get((recipe_digest, engine_version), {})

    async def run(self) -> None:
        """Read what is stored, then record what hosts report, while this process leads."""
        loaded = False
        while True:
            try:
                if self._leadership.is_leader:
                    if not loaded:
                        await self._load()
                        loaded = True
                    await self._record_new()
            except StudioError as error:
                log.warning("measurements_not_kept", reason=error.message)
            await asyncio.sleep(POLL_SECONDS)

    async def _load(self) -> None:
        async with self._database.transaction() as conn:
            ranges = await measured_memory.list_ranges(conn)
        self._calibrations = {}
        for known in ranges:
            by_gpu = self._calibrations.setdefault((known.recipe_digest, known.engine_version), {})
            by_gpu[known.gpus, known.gpu_model] = calibration_of(known.lowest, known.highest)
        self.version += 1
        self.changed.set()

    async def _record_new(self) -> None:
        found = {
            (item.replica_id, item.started_at.ToNanoseconds()): (session, item)
            for session in self._sessions.all()
            for item in session.replicas.replicas
            if item.state == Replica.STATE_READY and item.HasField("measured")
        }
        new = {
            start: reported
            for start, reported in found.items()
            if self._recorded.get(start) != reported[1].measured.SerializeToString(deterministic=True)
        }
        if not new:
            return
        async with self._database.transaction() as conn:
            changed = await self._record(conn, [*new.values()])
        self._recorded = {
            start: item.measured.SerializeToString(deterministic=True) for start, (_, item) in found.items()
        }
        if changed:
            await self._load()

    async def _record(self, conn: Connection, reported: list[tuple[Session, ReplicaObservation]]) -> bool:
        rows = {row.id: row for row in await replicas.list_replicas(conn)}
        known = [(session, item, rows[item.replica_id]) for session, item in reported if item.replica_id in rows]
        wanted = {(row.recipe_name, row.recipe_revision) for _, _, row in known}
        found = await recipes.revisions(conn, wanted)
        changed = False
        for session, item, row in known:
            recipe = effective(found[row.recipe_name, row.recipe_revision])
            measured = MeasuredMemory()
            measured.CopyFrom(item.measured)
            measured.engine_version = (
                item.measured.engine_version or recipe.engine.version or TESTED_VERSION.get(recipe.engine.name, "")
            )
            measured.gpu_model = item.measured.gpu_model or _gpu_model(session, item)
            digest, gpus = recipes.digest_of(recipe), gpu_count(row)
            if await measured_memory.record(conn, digest, gpus, measured, datetime.now(UTC)):
                log.info("start_measured", replica=row.id, host=session.host_name, gpu=measured.gpu_model)
                changed = True
        return changed


def calibration_of(lowest: MeasuredMemory, highest: MeasuredMemory) -> Calibration:
    """The highest of each part, with the spread between starts as its error."""
    low, high = measured_memory.parts_of(lowest), measured_memory.parts_of(highest)
    parts = {
        part: Measured(high[name], high[name] - low.get(name, high[name]))
        for name, part in PARTS.items()
        if name in high
    }
    if PEAK in high and high.keys() >= ENOUGH:
        # What the driver shows beyond all that the engine counts is the process context.
        outside = high[PEAK] - sum(high.get(name, 0) for name in (*PARTS, KV))
        if outside > 0:
            parts["context"] = Measured(outside, at_least=True)
    return Calibration(parts)


def _gpu_model(session: Session, item: ReplicaObservation) -> str:
    return next((gpu.model for gpu in session.gpus if gpu.uuid in item.gpu_uuids), "")
