"""What comes between a client and its engine on purpose: keys that end, drains that do not wait for ever, LiteLLM."""

import json
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from fakes.whole_system import System, eventually

REVOKED_WITHIN_SECONDS = 60
LONG = """
kind: Recipe
name: long
engine: {name: demo}
args: {demo: {tokens_per_second: 10}}
---
kind: Deployment
name: long
recipe: long
drain: {deadline: 2s, grace: 2s}
"""
THROUGH_LITELLM = """
kind: Deployment
name: guarded
recipe: demo
replicas: {min: 2, max: 2}
via: litellm
"""
HI = [{"role": "user", "content": "Tell me of the sea."}]


def client_with(system: System, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{system.up['gateway_url']}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[openai.OpenAI]:
    with client_with(system, system.up["api_key"]) as client:
        yield client


def test_a_key_is_rotated_without_a_gap_and_refused_once_it_is_revoked(system: System) -> None:
    def works(secret: str) -> bool:
        with client_with(system, secret) as client:
            try:
                client.models.list()
            except openai.AuthenticationError:
                return False
        return True

    old = json.loads(system.studio("keys", "create", "rotating", "-o", "json").stdout)
    eventually(lambda: works(old["secret"]))
    new = json.loads(system.studio("keys", "rotate", old["key"]["id"], "--overlap", "1h", "-o", "json").stdout)
    eventually(lambda: works(new["secret"]))
    assert works(old["secret"]), "both are good while clients change over"
    in_the_address = httpx.get(f"{system.up['gateway_url']}/v1/models", params={"api_key": new["secret"]})
    assert in_the_address.status_code == 401
    for key in (old, new):
        system.studio("keys", "revoke", key["key"]["id"])
        eventually(lambda key=key: not works(key["secret"]), REVOKED_WITHIN_SECONDS)
    secrets = [key["secret"].encode() for key in (old, new)]
    written = [file for file in system.home.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.suffix == ".log" for file in written)
    assert [file for file in written if any(secret in file.read_bytes() for secret in secrets)] == []


def test_a_drain_ends_at_its_deadline_with_an_error_event_that_is_counted(
    system: System, client: openai.OpenAI
) -> None:
    system.studio("apply", "-f", "-", "--wait", stdin=LONG)
    system.ready_replica("long-1")
    stream = client.chat.completions.create(model="long", messages=HI, max_tokens=2000, stream=True)
    words = iter(stream)
    next(words)
    began = time.monotonic()
    system.studio("stop", "long")
    with pytest.raises(openai.APIError, match="broke off"):
        for _ in words:
            pass
    assert time.monotonic() - began < 60, "2,000 tokens would have taken 200 s"

    def counted() -> bool:
        return any(
            row["model"] == "long" and int(row["failed"]) == 1 for row in system.listed("usage", "--by", "model")
        )

    eventually(counted)
    system.studio("delete", "deployment", "long", "--yes")


def test_a_deployment_through_litellm_says_the_same_and_is_followed(system: System, client: openai.OpenAI) -> None:
    """Its router holds a deployment per replica, kept in step with the routes; usage names the replica that answered."""
    direct = system.ready_replica()
    system.studio("apply", "-f", "-", "--wait", stdin=THROUGH_LITELLM)
    for name in ("guarded-1", "guarded-2"):
        system.ready_replica(name)
    assert direct

    def said(model: str) -> tuple[str, str, int]:
        answer = client.chat.completions.create(model=model, messages=HI, max_tokens=12, temperature=0)
        assert answer.usage is not None
        return answer.choices[0].message.content or "", answer.choices[0].finish_reason, answer.usage.completion_tokens

    def streamed(model: str) -> tuple[str, int]:
        chunks = list(
            client.chat.completions.create(
                model=model,
                messages=HI,
                max_tokens=12,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return text, next(chunk.usage.completion_tokens for chunk in chunks if chunk.usage)

    assert said("guarded") == said("demo")
    assert streamed("guarded") == streamed("demo")
    for _ in range(4):
        said("guarded")
    assert deployments(system) == 2
    system.studio("scale", "guarded", "1", "--wait")
    eventually(lambda: [row["id"] for row in system.listed("ps") if row["deployment"] == "guarded"] == ["guarded-1"])
    assert [said("guarded") for _ in range(4)] == [said("demo")] * 4
    system.studio("delete", "deployment", "guarded", "--yes")
    with pytest.raises(openai.APIStatusError):
        eventually(lambda: not said("guarded"))


def deployments(system: System) -> int:
    """How many the gateway's router of LiteLLM holds, by its log."""
    lines = (system.home / "logs" / "gateway.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if "litellm_in_step" in line]
    return int(said[-1]["deployments"]) if said else 0
