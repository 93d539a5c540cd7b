"""A deployment of real vLLM is put behind LiteLLM by ``studio apply``: the same answers, the operator's callbacks, no restart."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.conformance import Door, chat, completion, message
from fakes.gateway_process import GatewayProcess
from fakes.whole_system import TINY_MODEL, System, eventually

DEPLOYMENT = f"""
kind: Deployment
name: {TINY_MODEL}
recipe: {TINY_MODEL}
via: VIA
"""
CALLBACK = """
import json, os
from litellm.integrations.custom_logger import CustomLogger

class Seen(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        about = kwargs["standard_logging_object"]
        with open(os.environ["SEEN_FILE"], "a") as file:
            file.write(json.dumps([about["model_group"], about["model_id"], about["completion_tokens"]]) + "\\n")

seen = Seen()
"""


def said(answer: Any) -> Any:
    """What an answer, or a stream, says: text, how it ended, tokens."""
    events = answer if isinstance(answer, list) else [answer]
    text, ends, tokens = "", [], []
    for event in events:
        for choice in event.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            text += part.get("content") or choice.get("text") or ""
            ends += [choice["finish_reason"]] if choice.get("finish_reason") else []
        text += "".join(part.get("text") or "" for part in event.get("content") or ())
        usage = event.get("usage") or {}
        tokens += [count for name in ("completion_tokens", "output_tokens") if (count := usage.get(name))]
    return text, ends, tokens


ASKS: dict[str, Callable[[Door], Any]] = {
    "chat": chat,
    "chat stream": lambda door: chat(door, stream=True, stream_options={"include_usage": True}),
    "completion": completion,
    "completion stream": lambda door: completion(door, stream=True, stream_options={"include_usage": True}),
    "message": message,
    "a field that only vLLM knows": lambda door: chat(door, extra_body={"top_k": 1, "ignore_eos": True}),
}


@pytest.fixture(scope="module", autouse=True)
def through_litellm(system: System) -> Iterator[None]:
    before = system.ready_replica(f"{TINY_MODEL}-1")
    system.studio("apply", "-f", "-", "--wait", stdin=DEPLOYMENT.replace("VIA", "litellm"))
    yield
    system.studio("apply", "-f", "-", "--wait", stdin=DEPLOYMENT.replace("VIA", "direct"))
    after = system.ready_replica(f"{TINY_MODEL}-1")
    assert (after["id"], after["pid"]) == (before["id"], before["pid"]), "a change of the way restarts no engine"


@pytest.fixture(params=["in-process", "process"])
async def gateway(
    request: pytest.FixtureRequest, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GatewayProcess]:
    (tmp_path / "callback_of_this_test.py").write_text(CALLBACK)
    config = tmp_path / "litellm.yaml"
    config.write_text("litellm_settings: {callbacks: [callback_of_this_test.seen]}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SEEN_FILE", str(tmp_path / "seen"))
    more = ["--litellm", request.param, "--litellm-config", str(config)]
    more += ["--token-file", str(system.home / "coordinator" / "local-token")]
    gateway = await GatewayProcess.start(Path(sys.executable), tmp_path, system.coordinator_port, *more)
    yield gateway
    await gateway.terminate()


async def test_the_same_is_said_and_the_callback_sees_which_replica_said_it(
    system: System, gateway: GatewayProcess, tmp_path: Path
) -> None:
    replica = system.ready_replica(f"{TINY_MODEL}-1")
    direct = Door(replica["base_url"], "none", TINY_MODEL)
    through = Door(gateway.url, system.up["api_key"], TINY_MODEL)
    for name, ask in ASKS.items():
        expected = said(await asyncio.to_thread(ask, direct))
        assert said(await asyncio.to_thread(ask, through)) == expected, name
        assert expected[0], name

    def seen() -> list[Any]:
        lines = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
        return lines if len(lines) >= len(ASKS) else []

    lines = await asyncio.to_thread(eventually, seen)
    assert {(group, replica_id) for group, replica_id, _ in lines} == {(TINY_MODEL, replica["id"])}
    assert all(tokens for _, _, tokens in lines)
