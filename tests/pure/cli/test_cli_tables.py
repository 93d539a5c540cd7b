from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from studio.v1.admin_service_pb2 import GatewayStatus, GetStatusResponse, UsageTotal
from studio.v1.deployment_pb2 import Deployment, DeploymentSpec
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.recipe_pb2 import Recipe, RecipeRevision
from studio.v1.replica_pb2 import Failure, Replica, ReplicaFigures, StartProgress
from studio.v1.route_pb2 import ApiKey, Limits, Price, ProviderRoute, Tenant
from studio_cli.views.deployments import deployment_table, describe_range
from studio_cli.views.events import event_line
from studio_cli.views.hosts import host_table
from studio_cli.views.keys import key_table
from studio_cli.views.providers import provider_table
from studio_cli.views.recipes import recipe_table
from studio_cli.views.replicas import natural, replica_table, short_model
from studio_cli.views.states import STYLES, deployment_state, host_state, replica_state
from studio_cli.views.status import status_lines
from studio_cli.views.table import Column, Row, Table, lay_out
from studio_cli.views.tenants import price_table, tenant_table
from studio_cli.views.usage import usage_table
from studio_runtime.settings import Address

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def ago(**parts: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW - timedelta(**parts))
    return stamp


def written(table: Table, *, wide: bool = False) -> str:
    """The table, with ASCII for the dash and the multiplication sign, so that expectations are easy to type."""
    text = "\n".join(line.plain for line in lay_out(table, wide=wide))
    return text.replace("\N{EN DASH}", "-").replace("\N{MULTIPLICATION SIGN}", "x")


def h100(index: int) -> Gpu:
    return Gpu(uuid=f"GPU-{index}", index=index, model="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)


def test_ps():
    host = Host(id="h3", name="gpu-03", gpus=[h100(0), h100(1), h100(7)])
    figures = ReplicaFigures(running=11, waiting=0, kv_used_share=0.384, generation_tokens_per_second=1904.2)
    replicas = [
        Replica(
            id="chat-10",
            deployment="chat",
            recipe_revision=8,
            host_name="gpu-05",
            gpu_uuids=["GPU-gone"],
            state=Replica.STATE_STARTING,
            state_since=ago(seconds=41),
            progress=StartProgress(phase=StartProgress.PHASE_WEIGHTS, share=0.71, phase_since=ago(seconds=60)),
        ),
        Replica(
            id="chat-2",
            deployment="chat",
            recipe_revision=7,
            host_name="gpu-03",
            gpu_uuids=["GPU-0", "GPU-1"],
            state=Replica.STATE_READY,
            state_since=ago(hours=2, minutes=14),
            figures=figures,
        ),
        Replica(
            id="embed-1",
            deployment="embed",
            recipe_revision=2,
            host_name="gpu-03",
            gpu_uuids=["GPU-7"],
            state=Replica.STATE_SLEEPING,
            state_since=ago(hours=3),
        ),
        Replica(
            id="zeta-1",
            deployment="zeta",
            recipe_revision=1,
            host_name="gpu-03",
            state=Replica.STATE_FAILED,
            state_since=ago(seconds=5),
            failure=Failure(reason="weights_oom", message="the weights do not fit"),
            retry_at=ago(seconds=-8),
        ),
    ]
    deployments = [
        Deployment(name="big", state=Deployment.STATE_PENDING, target_revision=1, state_reason="no host fits"),
        Deployment(name="chat", state=Deployment.STATE_DEGRADED),
    ]
    assert written(replica_table(replicas, deployments, [host], NOW)) == (
        "NAME   REPLICA  REVISION  HOST    GPUS      STATE     SINCE  RUN/WAIT    KV  TOK/S\n"
        "big    -        r1        -       -         PENDING   -      no host fits\n"
        "chat   chat-2   r7        gpu-03  0,1 H100  READY     2h14m  11/0      38 %  1,904\n"
        "chat   chat-10  r8        gpu-05  ?         STARTING  41s    weights 71 %, about 24s left\n"
        "embed  embed-1  r2        gpu-03  7 H100    SLEEPING  3h     -            -      -\n"
        "zeta   zeta-1   r1        gpu-03  -         FAILED    5s     "
        "weights_oom: the weights do not fit; tried again in 8s"
    )


def test_figures_that_are_stale_or_unknown_are_dashes_and_zero_is_zero():
    idle = Replica(id="a-1", deployment="a", state=Replica.STATE_READY, figures=ReplicaFigures(running=0, waiting=0))
    stale = Replica(id="b-1", deployment="b", state=Replica.STATE_READY, figures=ReplicaFigures(running=3, stale=True))
    lines = written(replica_table([idle, stale], [], [], NOW)).splitlines()
    assert lines[1].split()[-3:] == ["0/0", "-", "-"]
    assert lines[2].split()[-3:] == ["-", "-", "-"]


def test_hosts():
    host = Host(
        id="abc",
        name="gpu-03",
        state=Host.STATE_CONNECTED,
        last_seen=ago(seconds=2),
        gpus=[h100(0), h100(1), Gpu(model="Tesla T4")],
        labels={"rack": "3", "pool": "prod"},
        cordoned=True,
        facts={"memory_bytes": 62 * 2**30, "agent_version": "0.1.0", "os": "Debian 12"},
        figures={"cpu_share": 0.07, "memory_used_bytes": 8 * 2**30},
    )
    lost = Host(name="gpu-01", state=Host.STATE_LOST)
    assert written(host_table([host, lost], NOW)) == (
        "NAME    STATE               SEEN  GPUS                    CPU  MEMORY           DISK FREE  LABELS\n"
        "gpu-01  LOST                -     -                         -  0 B                      -  -\n"
        "gpu-03  CONNECTED,CORDONED  2s    2 x H100, 1 x Tesla T4  7 %  8 GiB of 62 GiB          -  pool=prod,rack=3"
    )
    assert "Debian 12" in written(host_table([host], NOW), wide=True)


def test_deployments():
    spec = DeploymentSpec(name="chat", recipe="qwen3", replicas={"min": 0, "max": 3}, priority=100)
    table = deployment_table(
        [
            Deployment(
                name="chat",
                spec=spec,
                state=Deployment.STATE_READY,
                target_revision=7,
                ready_replicas=2,
                wanted_replicas=3,
                created_at=ago(days=2),
                state_reason="one replica starts",
            )
        ],
        NOW,
    )
    assert written(table) == (
        "NAME  RECIPE    STATE  READY  RANGE   PRIORITY  AGE  WHY\n"
        "chat  qwen3 r7  READY    2/3  0 to 3       100  2d   one replica starts"
    )


@pytest.mark.parametrize(
    ("replicas", "text"),
    [({}, "1"), ({"min": 0}, "0 to 1"), ({"min": 2}, "2"), ({"max": 4}, "1 to 4"), ({"min": 0, "max": 0}, "0")],
)
def test_replica_ranges_are_filled_in_as_the_contract_says(replicas: dict[str, int], text: str):
    assert describe_range(DeploymentSpec(replicas=replicas)) == text


def test_recipes():
    recipe = Recipe(
        model={"source": "hf://Qwen/Qwen3-32B"},
        engine={"name": "vllm", "version": "0.33.0"},
        resources={"gpu": {"count": {"value": 2}, "memory": {"bytes": 24 * 2**30}, "model": ["H100", "H200"]}},
    )
    table = recipe_table([RecipeRevision(recipe_name="q", revision=7, recipe=recipe, created_at=ago(minutes=5))], NOW)
    assert written(table) == (
        "NAME  REVISION  ENGINE       MODEL                GPUS                          AGE\n"
        "q     r7        vllm 0.33.0  hf://Qwen/Qwen3-32B  2 with 24 GiB (H100 or H200)  5m"
    )


def test_keys():
    keys = [
        ApiKey(id="b", name="late", created_at=ago(hours=1), expires_at=ago(days=-7), models=["chat", "embed"]),
        ApiKey(id="a", name="early", created_at=ago(days=1), revoked_at=ago(hours=2)),
        ApiKey(id="c", name="over", created_at=ago(minutes=9), expires_at=ago(minutes=1)),
    ]
    limits = Limits(concurrency=2, token_budget=20_000, budget_period=Limits.PERIOD_DAY)
    keys[0].tenant, keys[0].user = "lab", "alice"
    keys[0].limits.CopyFrom(limits)
    assert written(key_table(keys, NOW)) == (
        "ID  NAME   STATE    MODELS      AGE  EXPIRES  TENANT  USER   LIMITS\n"
        "a   early  revoked  all         1d   never    -       -      -\n"
        "b   late   valid    chat,embed  1h   in 7d    lab     alice  2 at once, 20,000 tokens/day\n"
        "c   over   expired  all         9m   1m ago   -       -      -"
    )


def test_tenants_and_prices():
    tenants = [Tenant(name="lab", weight=2.5, limits=Limits(requests_per_minute=60)), Tenant(name="web")]
    tenants[1].user_limits.concurrency = 2
    assert written(tenant_table(tenants)) == (
        "NAME  WEIGHT  LIMITS           OF EACH USER  DESCRIPTION\n"
        "lab      2.5  60 requests/min  -             -\n"
        "web        1  -                2 at once     -"
    )
    price = Price(model="chat", prompt_micros=500_000, completion_micros=1_500_000)
    assert written(price_table([price])) == "MODEL  PROMPT  COMPLETION  CACHED\nchat     0.50        1.50    0.50"


def test_providers_and_usage():
    provider = ProviderRoute(model="mini", provider_model="openai/gpt-5-mini", api_key_env="OPENAI_API_KEY")
    assert "mini   openai/gpt-5-mini  default   $OPENAI_API_KEY" in written(provider_table([provider]))
    total = UsageTotal(
        model="chat",
        day="2026-03-04",
        requests=1200,
        prompt_tokens=5,
        time_to_first_token_p50_seconds=0.21,
        cost_micros=1_500_000,
    )
    assert written(usage_table([total], ["day", "model"])) == (
        "DAY         MODEL  REQUESTS  FAILED  PROMPT  COMPLETION  TTFT P50  TTFT P95  COST\n"
        "2026-03-04  chat      1,200       0       5           0     0.2 s         -  1.50"
    )


def test_events_tell_reason_and_date_where_they_are_needed():
    event = Event(
        at=ago(minutes=5),
        kind="replica.failed",
        replica="chat-2",
        deployment="chat",
        reason="kv_too_small",
        message="9.4 GiB are needed\nFix: args.max_model_len: 84992",
        severity=Event.SEVERITY_ERROR,
    )
    assert event_line(event, NOW, UTC).plain == (
        "11:55:00  chat-2          FAILED        kv_too_small: 9.4 GiB are needed\n"
        + " " * 40
        + "Fix: args.max_model_len: 84992"
    )
    event.at.CopyFrom(ago(days=1))
    event.message = "kv_too_small: said already"
    line = event_line(event, NOW, UTC).plain
    assert line.startswith("2026-03-03 12:00:00  ")
    assert line.count("kv_too_small") == 1


def test_status_says_whether_gateways_have_the_newest_routes():
    status = GetStatusResponse(
        version="1", schema_revision="7", term=3, route_version=12, leader_address="10.0.0.6:7070"
    )
    lines = list(status_lines(status, Address("10.0.0.5", 7070), NOW))
    assert "stands by; 10.0.0.6:7070 leads" in lines[0]
    assert lines[-1] == "gateways     none is connected"
    for gateway, acked in (("g1", 12), ("g2", 9)):
        status.gateways.append(
            GatewayStatus(gateway_id=gateway, route_version_acked=acked, connected_at=ago(minutes=2))
        )
    lines = list(status_lines(status, Address("10.0.0.5", 7070), NOW))
    assert lines[2] == "gateways     g1, connected for 2m, has the newest routes"
    assert lines[3] == "             g2, connected for 2m, has routes of version 9"


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "Tesla T4"),
        ("", ""),
    ],
)
def test_gpu_models_are_shortened(model: str, short: str):
    assert short_model(model) == short


def test_numbers_in_names_sort_as_numbers():
    assert sorted(["chat-10", "chat-2", "a"], key=natural) == ["a", "chat-2", "chat-10"]


def test_every_state_has_a_colour():
    states = [replica_state(Replica(state=state)) for state in Replica.State.values()]
    states += [deployment_state(Deployment(state=state)) for state in Deployment.State.values()]
    states += [host_state(Host(state=state)) for state in Host.State.values()]
    assert {state for state in states if state not in STYLES} == {"UNSPECIFIED"}


cells = st.lists(st.text(st.characters(categories=["L", "N"]), max_size=8), min_size=3, max_size=3)


@given(st.lists(st.tuples(cells, st.integers(1, 3)), max_size=6), st.booleans())
def test_columns_are_aligned_and_no_line_ends_in_blanks(rows: Sequence[tuple[list[str], int]], wide: bool):
    columns = (Column("ONE"), Column("TWO", wide=True), Column("THREE", right=True))
    table = Table(
        columns, tuple(Row("", tuple(row[:count]), note="told" if count < 3 else "") for row, count in rows), ""
    )
    lines = lay_out(table, wide=wide)
    assert len(lines) == len(rows) + 1
    assert all(not line.plain.endswith(" ") for line in lines)
    # The last column is right-aligned: all whole rows end in the same place, unless they end in nothing.
    ends = {line.cell_len for line, (row, count) in zip(lines[1:], rows, strict=True) if count == 3 and row[2]}
    assert len(ends) <= 1


def test_a_note_does_not_widen_columns_and_keeps_its_style():
    table = Table(
        (Column("A"), Column("B")), (Row("1", ("x",), note=Text("a long story", style="red")), Row("2", ("y", "z"))), ""
    )
    lines = lay_out(table, wide=False)
    assert [line.plain for line in lines] == ["A  B", "x  a long story", "y  z"]
    assert any(span.style == "red" for span in lines[1].spans)
