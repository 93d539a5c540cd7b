"""A new revision takes over with a real engine; a bad one does not, and who asks is answered all the while."""

import json
from contextlib import suppress

import httpx
from fakes.whole_system import System, eventually

MANIFEST = """
kind: Recipe
name: steady
engine: {{name: demo}}
args: {{max_model_len: {length}, demo: {{{demo}}}}}
---
kind: Deployment
name: steady
recipe: steady
"""


def revisions(system: System) -> list[int]:
    return sorted(
        row["recipe_revision"]
        for row in system.listed("ps")
        if row["deployment"] == "steady" and row["state"] == "READY"
    )


def test_a_good_revision_takes_over_and_a_bad_one_is_rolled_back(system: System) -> None:
    for length in (1000, 2000):
        system.studio("apply", "-f", "-", "--wait", stdin=MANIFEST.format(length=length, demo=""))
    system.studio("rollout", "status", "steady", "--watch")
    assert eventually(lambda: revisions(system) == [2])
    bad = MANIFEST.format(length=3000, demo="fail_line: out of luck, exit_code: 3")
    applied = system.studio("apply", "-f", "-", "--wait", check=False, stdin=bad)
    assert (applied.returncode, "rolled_back" in applied.stderr) == (1, True), applied.stdout + applied.stderr
    assert eventually(lambda: revisions(system) == [2])
    told = json.loads(system.studio("rollout", "status", "steady", "-o", "json").stdout)
    assert told["rollout"]["phase"] == "ROLLED_BACK"
    assert told["target_revision"] == 2


def ask(system: System) -> bool:
    """Whether a streamed request to ``watched`` was answered to its end."""
    up = system.up
    body = {"model": "watched", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": True}
    with suppress(httpx.HTTPError):
        answer = httpx.post(
            up["gateway_url"] + "/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {up['api_key']}"},
            timeout=20,
        )
        return "[DONE]" in answer.text and '"error"' not in answer.text
    return False


def phase(system: System) -> str:
    answer = json.loads(system.studio("rollout", "status", "watched", "-o", "json").stdout)
    return str(answer.get("rollout", {}).get("phase", ""))


def test_a_canary_that_breaks_its_answers_is_rolled_back_by_what_the_gateway_saw(system: System) -> None:
    policy = "rollout: {{canary: {{share: 50%, for: 1s, min_requests: 4}}}}\n"
    text = (MANIFEST + policy).replace("steady", "watched")
    system.studio("apply", "-f", "-", "--wait", stdin=text.format(length=1000, demo=""))
    assert eventually(lambda: ask(system))
    system.studio("apply", "-f", "-", "--no-wait", stdin=text.format(length=2000, demo="die_after_tokens: 2"))

    def judged() -> bool:
        answers = [ask(system) for _ in range(6)]
        assert any(answers), "the old revision serves its share"
        return phase(system) == "ROLLED_BACK"

    assert eventually(judged)
    assert all(ask(system) for _ in range(6))
    assert "requests failed" in system.studio("rollout", "status", "watched").stdout
