"""What people see of a plan, an estimate and moves."""

from studio.v1.admin_service_pb2 import MemoryEstimate, MemoryPart, Move, PlannedReplica, PlanResponse
from studio_cli.views.plan import estimate_lines, move_table, plan_lines
from studio_cli.views.table import lay_out
from studio_cli.wording import NOTHING

GIB = 2**30
ESTIMATE = MemoryEstimate(
    parts=[
        MemoryPart(name="weights", bytes=15 * GIB, source="measured", error_bytes=GIB // 10),
        MemoryPart(name="kv", bytes=50 * GIB, source="formula", error_bytes=GIB),
        MemoryPart(name="graphs", source="formula"),
    ],
    total_bytes=65 * GIB,
    error_bytes=GIB,
    kv_bytes_per_token=131072,
    kv_tokens=409600,
    max_concurrency=100,
    max_model_len_that_fits=8192,
    unknown=["the vocabulary"],
)


def test_a_placed_replica_comes_with_memory_command_and_the_other_hosts() -> None:
    planned = PlannedReplica(
        deployment="chat",
        replica_id="chat-1",
        host_name="gpu-03",
        gpu_uuids=["GPU-1"],
        reason="placed on gpu-03: its GPU has room",
        refusals=["1 host gpu-04: cordoned"],
        argv=["vllm", "serve", "--chat-template", "a b"],
        estimate=ESTIMATE,
    )
    assert list(plan_lines(PlanResponse(replicas=[planned]))) == [
        "chat-1 → gpu-03 (GPU-1): placed on gpu-03: its GPU has room",
        "  memory   65.00 ± 1.00 GiB on each GPU: weights 15.00 + kv 50.00",
        "  unknown  the vocabulary",
        "  command  vllm serve --chat-template 'a b'",
        "  not on   1 host gpu-04: cordoned",
    ]


def test_one_that_waits_says_what_would_make_it_fit_and_who_would_have_to_go() -> None:
    waiting = PlannedReplica(
        deployment="big",
        replica_id="big-1",
        reason="no host fits: wants 8 GPUs on one host",
        refusals=["3 hosts gpu-01..03: 4 GPUs, 8 wanted", "would fit: with 4 GPUs on gpu-01"],
    )
    none = PlannedReplica(deployment="old", reason="it wants no replica now")
    assert list(plan_lines(PlanResponse(replicas=[waiting, none], preempted=["small-1 on gpu-01: why"]))) == [
        "big-1 waits: no host fits: wants 8 GPUs on one host",
        "  not on   3 hosts gpu-01..03: 4 GPUs, 8 wanted",
        "  would fit: with 4 GPUs on gpu-01",
        "old: it wants no replica now",
        "would have to go: small-1 on gpu-01: why",
    ]


def test_an_estimate_has_a_line_for_each_part_with_source_and_error() -> None:
    lines = list(estimate_lines(ESTIMATE))
    assert lines[1].split() == ["weights", "15.00", "0.10", "measured"]
    assert any("409,600 of 131,072 bytes" in line for line in lines)
    assert lines[-1].endswith("the vocabulary")


def test_moves_tell_their_cost_where_it_was_measured() -> None:
    moves = [
        Move(replica_id="chat-1", from_host="a", to_host="b", reason="2 of chat there", cost_seconds=41),
        Move(replica_id="chat-2", from_host="a", to_host="c", reason="frees a"),
    ]
    _, first, second = (str(line) for line in lay_out(move_table(moves), wide=False))
    assert first.split()[:4] == ["chat-1", "a", "b", "41"]
    assert second.split()[3] == NOTHING
