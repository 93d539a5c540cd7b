"""What would happen, for people: where each replica goes, with what, and why not elsewhere."""

import shlex
from collections.abc import Iterator

from studio.v1.admin_service_pb2 import MemoryEstimate, Move, PlannedReplica, PlanResponse

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

MOVES = (
    Column("REPLICA"),
    Column("FROM"),
    Column("TO"),
    Column("COST", right=True),
    Column("WHY"),
)
GIB = 2**30


def plan_lines(plan: PlanResponse) -> Iterator[str]:
    """The whole plan."""
    for planned in plan.replicas:
        yield from planned_lines(planned)
    for victim in plan.preempted:
        yield f"would have to go: {victim}"


def planned_lines(planned: PlannedReplica) -> Iterator[str]:
    """One replica; what it needs, its command, and every other host's reason below it."""
    name = planned.replica_id or planned.deployment
    if planned.host_name:
        gpus = f" ({', '.join(planned.gpu_uuids)})" if planned.gpu_uuids else ""
        yield f"{name} \N{RIGHTWARDS ARROW} {planned.host_name}{gpus}: {planned.reason}"
    else:
        yield f"{name} waits: {planned.reason}" if planned.replica_id else f"{name}: {planned.reason}"
    if planned.HasField("estimate"):
        yield f"  memory   {estimate_line(planned.estimate)}"
        yield from (f"  unknown  {unknown}" for unknown in planned.estimate.unknown)
    if planned.argv:
        yield f"  command  {shlex.join(planned.argv)}"
    for refusal in planned.refusals:
        yield f"  {refusal}" if refusal.startswith("would fit") else f"  not on   {refusal}"


def estimate_line(estimate: MemoryEstimate) -> str:
    """The sum and its parts in one line."""
    parts = " + ".join(f"{part.name} {gib(part.bytes)}" for part in estimate.parts if part.bytes)
    return f"{gib(estimate.total_bytes)} ± {gib(estimate.error_bytes)} GiB on each GPU: {parts}"


def estimate_lines(estimate: MemoryEstimate) -> Iterator[str]:
    """Every part with where it comes from and how wrong it may be, and what the sum allows."""
    yield f"{'part':<12} {'GiB':>8} {'±':>6}  source"
    for part in estimate.parts:
        yield f"{part.name:<12} {gib(part.bytes):>8} {gib(part.error_bytes):>6}  {part.source}"
    yield f"{'total':<12} {gib(estimate.total_bytes):>8} {gib(estimate.error_bytes):>6}"
    yield f"KV tokens       {wording.number(estimate.kv_tokens)} of {wording.number(estimate.kv_bytes_per_token)} bytes"
    yield f"concurrency     {estimate.max_concurrency:.2f} requests of full length"
    yield f"longest context {wording.number(estimate.max_model_len_that_fits)} tokens"
    yield from (f"unknown         {unknown}" for unknown in estimate.unknown)


def move_table(moves: list[Move]) -> Table:
    """Moves in the order in which they are done."""
    rows = tuple(
        Row(
            move.replica_id,
            (
                move.replica_id,
                move.from_host,
                move.to_host,
                wording.seconds(move.cost_seconds) if move.HasField("cost_seconds") else wording.NOTHING,
                move.reason,
            ),
        )
        for move in moves
    )
    return Table(MOVES, rows, "no move would free a host or heal spread")


def gib(size: int) -> str:
    """GiB with two digits, without the unit."""
    return f"{size / GIB:.2f}"
