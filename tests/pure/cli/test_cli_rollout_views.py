"""How rollouts are told."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.deployment_pb2 import Deployment, Rollout, TrafficFigures
from studio.v1.replica_pb2 import Replica
from studio_cli.views.recipe_uses import use_lines
from studio_cli.views.rollout import progress_line, rollout_lines
from studio_cli.views.starting import Verdict, judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=int(NOW.timestamp()) + seconds)


def a_rollout(phase: "Rollout.Phase.ValueType", **changes: object) -> Deployment:
    rollout = Rollout(
        **{
            "from_recipe": "qwen",
            "from_revision": 7,
            "to_recipe": "qwen",
            "to_revision": 8,
            "phase": phase,
            "reason": "9 of 40 requests failed; r7 kept serving",
            "since": at(-60),
        }
        | changes
    )
    return Deployment(
        name="chat",
        state=Deployment.STATE_READY,
        target_revision=8,
        wanted_replicas=2,
        rollout=rollout,
        updated_at=at(-90),
    )


ROWS = [
    Replica(id="chat-1", recipe_name="qwen", recipe_revision=7, state=Replica.STATE_READY),
    Replica(id="chat-2", recipe_name="qwen", recipe_revision=7, state=Replica.STATE_READY),
    Replica(id="chat-3", recipe_name="qwen", recipe_revision=8, state=Replica.STATE_READY),
]


def test_a_canary_is_told_with_both_sides_and_what_may_be_done():
    figures = TrafficFigures(requests=40, failed=9, time_to_first_token_p50_seconds=0.25)
    lines = list(rollout_lines(a_rollout(Rollout.PHASE_CANARY, new_figures=figures), ROWS, NOW))
    assert lines == [
        "chat  r7 → r8  CANARY for 1m: 9 of 40 requests failed; r7 kept serving",
        "  old   r7  2 replicas, 2 ready",
        "  new   r8  1 replica, 1 ready; while watched 40 requests, 9 failed, first token after 0.25 s",
        "  next  studio rollout pause chat · studio rollout resume chat · studio rollout undo chat",
    ]


def test_a_paused_one_says_where_it_stands_still():
    deployment = a_rollout(Rollout.PHASE_PAUSED, paused_in=Rollout.PHASE_REPLACE, reason="ann paused it")
    assert progress_line(deployment, ROWS) == "r7 → r8 PAUSED in REPLACE, 1 of 2 replaced: ann paused it"


def test_another_recipe_is_named():
    deployment = a_rollout(Rollout.PHASE_DONE, from_recipe="llama", reason="every replica is of r8")
    assert next(iter(rollout_lines(deployment, ROWS, NOW))).startswith("chat  llama r7 → qwen r8  DONE")


def test_a_deployment_that_never_changed_says_so():
    (line,) = rollout_lines(Deployment(name="chat", target_revision=1), [], NOW)
    assert line == "chat: r1, which never took another revision's place"


def test_who_waits_for_a_revision_that_was_rolled_back_or_paused_is_told():
    rolled_back = a_rollout(Rollout.PHASE_ROLLED_BACK)
    rolled_back.target_revision = 7
    for deployment, reason in ((rolled_back, "rolled_back"), (a_rollout(Rollout.PHASE_PAUSED), "paused")):
        standing = judge(deployment, ROWS, NOW)
        assert standing.verdict is Verdict.FAILED
        assert standing.failure is not None
        assert standing.failure.reason == reason
    # An operator's later word, such as a scale, is not about that.
    rolled_back.updated_at.CopyFrom(at(-10))
    assert judge(rolled_back, ROWS, NOW).verdict is Verdict.READY


def test_beside_a_recipe_stands_what_each_of_its_deployments_serves():
    kept = a_rollout(Rollout.PHASE_ROLLED_BACK, reason="chat-3 failed:\nout of memory")
    # As the coordinator tells it: what is kept, not what is named.
    kept.target_revision = 7
    on_its_way = a_rollout(Rollout.PHASE_CANARY, reason="r8 is watched")
    pinned = Deployment(name="batch", target_revision=3, spec={"recipe_revision": 3})
    stopped = Deployment(name="old", target_revision=8, stopped=True)
    on_its_way.name = "embed"
    other = Deployment(name="else", spec={"recipe": "other"})
    for one in (kept, on_its_way, pinned, stopped):
        one.spec.recipe = "qwen"
    assert use_lines("qwen", [kept, on_its_way, other, stopped, pinned]) == [
        "# batch serves r3, which it pins",
        "# chat serves r7; r8 was rolled back: chat-3 failed: out of memory",
        "# embed is on its way: r7 → r8 CANARY: r8 is watched",
        "# old is stopped; it would serve r8",
    ]
