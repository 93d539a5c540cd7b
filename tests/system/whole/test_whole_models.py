"""Models on hosts as an operator has them: pulled, paused, served and removed with ``studio``, from a hub on loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fakes.model_hub import Hub, Model, a_model, files_of, model_hub
from fakes.whole_system import System, eventually, running_system

SECOND = "model-00002-of-00002.safetensors"
MANIFEST = """\
kind: Recipe
name: tiny
model: {source: hf://lab/tiny}
engine: {name: demo}
resources: {gpu: {count: 0}}
---
kind: Deployment
name: tiny
recipe: tiny
"""
ADAPTED = """\
kind: Recipe
name: adapted
engine: {name: demo}
lora: [{name: poet, source: hf://lab/sql}]
---
kind: Deployment
name: adapted
recipe: adapted
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    adapter = Model("lab/sql", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"\0" * 64})
    with model_hub(a_model(), adapter) as served:
        yield served


@pytest.fixture(scope="module")
def system(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    assert hub.url
    with running_system(tmp_path_factory.mktemp("home")) as running:
        yield running


def test_a_model_is_pulled_paused_served_and_removed(system: System, hub: Hub):
    hub.held[SECOND] = 0.5
    pulled: list[int] = []
    pull = threading.Thread(
        target=lambda: pulled.append(system.studio("models", "pull", "lab/tiny", check=False).returncode)
    )
    pull.start()
    total = hub.models["lab/tiny"].size

    def half() -> bool:
        seen = [(model["state"], model["bytes_done"]) for model in system.listed("models")]
        return seen == [("PULLING", total - 2 * 2**20)]

    eventually(half)
    system.studio("models", "pause", "lab/tiny")
    pull.join()
    assert pulled == [1]
    assert "PAUSED 75 %" in system.studio("models").stdout
    # A deployment that needs it waits for it, and says so.
    system.studio("apply", "-f", "-", "--no-wait", stdin=MANIFEST)
    eventually(lambda: "paused" in system.replica("tiny-1")["progress"]["detail"])
    hub.held.clear()
    assert "is complete in" in system.studio("models", "pull", "lab/tiny").stdout
    assert hub.ranges[SECOND] == [0, 2 * 2**20]
    eventually(lambda: system.replica("tiny-1")["state"] == "READY", 60)
    (model,) = system.listed("models")
    assert model["state"] == "COMPLETE"
    assert files_of(Path(model["path"])) == hub.models["lab/tiny"].files
    assert Path(model["path"]).is_relative_to(system.home / "models")
    used = system.studio("models", "rm", "lab/tiny", "--yes", check=False)
    assert (used.returncode, "used by tiny-1" in used.stderr) == (5, True)
    # Started again it needs no hub.
    hub.requests.clear()
    system.studio("stop", "tiny", "--no-wait")
    eventually(lambda: "tiny-1" not in [row["id"] for row in system.listed("ps")])
    system.studio("start", "tiny", "--no-wait")
    eventually(lambda: system.replica("tiny-1")["state"] == "READY", 60)
    assert hub.requests == []
    system.studio("delete", "deployment", "tiny", "--yes")
    eventually(lambda: "tiny-1" not in [row["id"] for row in system.listed("ps")])
    system.studio("models", "rm", "lab/tiny", "--yes")
    eventually(lambda: system.listed("models") == [])


def test_what_the_host_refuses_reaches_the_operator(system: System):
    missing = system.studio("models", "pull", "lab/none", check=False)
    assert (missing.returncode, "no such model" in missing.stderr) == (3, True)
    nothing = system.studio("models", "cancel", "lab/none", check=False)
    assert nothing.returncode == 3
    assert system.listed("engines") == []
    engine = system.studio("engines", "install", "none", check=False)
    assert (engine.returncode, "cannot install" in engine.stderr) == (2, True)


def answer_of(system: System, model: str) -> tuple[int, str]:
    """Status of a completion, and what the gateway says the model is, or why not."""
    up = system.up
    told = httpx.post(
        up["gateway_url"] + "/v1/completions",
        headers={"Authorization": f"Bearer {up['api_key']}"},
        json={"model": model, "prompt": "hello", "max_tokens": 2},
    )
    body = told.json()
    return told.status_code, body["model"] if told.is_success else body["error"]["code"]


def test_adapters_are_models_of_their_own_while_an_engine_has_them(system: System):
    system.studio("apply", "-f", "-", stdin=ADAPTED)
    eventually(lambda: answer_of(system, "poet") == (200, "poet"))
    assert answer_of(system, "sql") == (404, "model_not_found")
    system.studio("lora", "load", "adapted-1", "sql", "lab/sql")
    eventually(lambda: answer_of(system, "sql") == (200, "sql"))
    assert "poet, sql" in system.studio("describe", "adapted-1").stdout
    used = system.studio("models", "rm", "lab/sql", "--yes", check=False)
    assert (used.returncode, "used by adapted-1" in used.stderr) == (5, True)
    system.studio("lora", "unload", "adapted-1", "sql")
    eventually(lambda: answer_of(system, "sql") == (404, "model_not_found"))
    assert answer_of(system, "poet") == (200, "poet")
    # Known, and not up right now.
    system.studio("stop", "adapted", "--no-wait")
    eventually(lambda: answer_of(system, "poet")[0] == 503)
    system.studio("delete", "deployment", "adapted", "--yes")
    eventually(lambda: answer_of(system, "poet") == (404, "model_not_found"))
