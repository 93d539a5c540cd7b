"""Parts are killed while the system serves: what must go on goes on."""

import json
import os
import signal
from collections.abc import Iterator

import httpx
import openai
import pytest
from fakes.whole_system import System, eventually, is_free, is_running

SLOW = """
kind: Recipe
name: slow
engine: {name: demo}
args: {demo: {tokens_per_second: 20}}
---
kind: Deployment
name: slow
recipe: slow
drain: {deadline: 5s, grace: 5s}
"""


@pytest.fixture
def client(system: System) -> Iterator[openai.OpenAI]:
    up = system.up
    with openai.OpenAI(base_url=up["gateway_url"] + "/v1", api_key=up["api_key"], max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def slow(system: System) -> Iterator[str]:
    system.studio("apply", "-f", "-", "--wait", stdin=SLOW)
    yield "slow"
    system.studio("delete", "deployment", "slow", "--yes")
    eventually(lambda: not [row for row in system.listed("ps") if row["deployment"] == "slow"])


def ask(client: openai.OpenAI, model: str = "demo") -> str:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=5)
    return answer.choices[0].message.content or ""


def test_an_agent_killed_during_a_stream_disturbs_nobody_and_its_successor_adopts_the_engine(
    system: System, client: openai.OpenAI, slow: str
) -> None:
    engine = system.ready_replica("slow-1")["pid"]
    agent = system.pid("agent")
    stream = client.chat.completions.create(
        model=slow,
        messages=[{"role": "user", "content": "hi"}],
        max_tokens=60,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = iter(stream)
    words = [next(chunks)]
    os.kill(agent, signal.SIGKILL)
    words += list(chunks)
    assert words[-1].usage is not None
    assert words[-1].usage.completion_tokens == 60
    assert eventually(lambda: system.pid("agent") != agent and is_running(system.pid("agent")))
    row = system.ready_replica("slow-1")
    assert (row["pid"], row.get("restarts", 0)) == (engine, 0)
    assert is_running(engine)
    eventually(lambda: any(event["kind"] == "agent.adopted" for event in system.listed("events")))
    # New replicas start after an agent came back, too.
    system.studio("scale", "slow", "2", "--wait")
    assert system.ready_replica("slow-2")["pid"] != engine


def test_with_the_coordinator_killed_requests_are_served_and_it_comes_back(
    system: System, client: openai.OpenAI
) -> None:
    before = system.ready_replica()
    coordinator = system.pid("coordinator")
    os.kill(coordinator, signal.SIGKILL)
    for _ in range(5):
        assert ask(client)
    eventually(lambda: system.pid("coordinator") != coordinator)
    after = eventually(system.ready_replica)
    assert (after["pid"], after["id"]) == (before["pid"], before["id"])
    eventually(lambda: system.listed("hosts")[0]["state"] == "CONNECTED")
    assert ask(client)


def test_with_the_database_killed_requests_are_served_and_it_comes_back(system: System, client: openai.OpenAI) -> None:
    postgres = system.pid("postgres")
    os.kill(postgres, signal.SIGKILL)
    assert ask(client)
    eventually(lambda: system.pid("postgres") != postgres)
    eventually(lambda: system.studio("ps", check=False).returncode == 0)
    assert system.ready_replica()["restarts"] == 0
    assert ask(client)


def test_a_killed_gateway_is_back_with_the_same_routes_and_keys(system: System, client: openai.OpenAI) -> None:
    gateway = system.pid("gateway")
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: system.pid("gateway") != gateway)

    def answered() -> str:
        try:
            return ask(client)
        except openai.APIConnectionError:
            return ""

    assert eventually(answered)


def test_a_killed_engine_is_an_event_with_its_reason_and_is_started_again(
    system: System, client: openai.OpenAI, slow: str
) -> None:
    row = system.ready_replica("slow-1")
    os.kill(row["pid"], signal.SIGKILL)
    (failed, *_) = eventually(
        lambda: [
            event
            for event in system.listed("events")
            if event["kind"] == "replica.failed" and event.get("replica") == "slow-1"
        ]
    )
    assert "SIGKILL" in failed["message"]
    assert "restart 1 of 3 in 1 s" in failed["message"]
    again = eventually(
        lambda: [
            found
            for found in system.listed("ps")
            if found["id"] == "slow-1" and found["state"] == "READY" and found["pid"] != row["pid"]
        ]
    )
    assert again[0]["restarts"] == 1
    assert ask(client, slow)


def test_stop_leaves_no_process_and_frees_the_port(system: System, slow: str) -> None:
    row = system.ready_replica("slow-1")
    port = int(row["base_url"].rpartition(":")[2])
    system.studio("stop", slow)
    assert not is_running(row["pid"])
    assert is_free(port)
    up = system.up
    refused = httpx.post(
        up["gateway_url"] + "/v1/chat/completions",
        headers={"Authorization": f"Bearer {up['api_key']}"},
        json={"model": slow, "messages": []},
    )
    assert refused.status_code == 503
    assert "studio start slow" in json.dumps(refused.json())
    system.studio("start", slow, "--wait")
    system.ready_replica("slow-1")


def test_usage_is_recorded(system: System, client: openai.OpenAI) -> None:
    ask(client)
    eventually(
        lambda: [row for row in system.listed("usage") if row.get("model") == "demo" and row["completion_tokens"]]
    )


def test_logs_show_what_the_engine_wrote(system: System) -> None:
    assert "Application startup complete" in system.studio("logs", "demo").stdout
