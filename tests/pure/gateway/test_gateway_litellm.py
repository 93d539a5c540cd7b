"""The fleet as deployments of LiteLLM's router; the file of LiteLLM's settings; what an engine is sent through it."""

from pathlib import Path

import pytest
from fakes.front_door import a_route, a_route_table
from hypothesis import given
from hypothesis import strategies as st
from studio_gateway.call import read_call
from studio_gateway.litellm_deployments import Held, changes, deployments_of, through_litellm
from studio_gateway.litellm_import import LiteLlmConfigError, read_settings
from studio_gateway.litellm_plugin import Settings
from studio_gateway.openai_errors import ApiError
from studio_gateway.provider_call import OPERATIONS, engine_arguments_of
from studio_gateway.table import Routes

URL = "http://127.0.0.1:1"

HELD = st.builds(
    Held,
    id=st.sampled_from("abcd"),
    name=st.sampled_from(["x", "y"]),
    replica_id=st.just("r"),
    engine_model=st.just("m"),
    base_url=st.just(URL),
    recipe_revision=st.just(1),
    weight=st.just(1.0),
)
ROUTER = st.lists(HELD).map(lambda held: {one.id: one for one in held})


@given(ROUTER, ROUTER)
def test_changes_lead_from_any_state_to_any_other_and_touch_nothing_else(
    present: dict[str, Held], wanted: dict[str, Held]
):
    needed = changes(present, wanted)
    after = present | {one.id: one for one in needed.put}
    for gone in needed.drop:
        del after[gone]
    assert after == wanted
    assert not changes(wanted, wanted)
    assert all(present.get(one.id) != one for one in needed.put)


def test_only_models_that_ask_for_it_go_through_litellm_each_once():
    table = a_route_table(a_route("direct", URL), a_route("guarded", URL, aliases=["safe"], via="litellm"))
    (model,) = through_litellm(Routes.of(table))
    assert model.name == "guarded"
    assert through_litellm(None) == []


def test_replica_that_answers_to_several_names_is_several_deployments():
    base, adapter = a_route("base", URL, aliases=["b"]), a_route("adapter", URL)
    adapter.endpoints[0].replica_id = base.endpoints[0].replica_id
    models = list(dict.fromkeys(Routes.of(a_route_table(base, adapter)).by_name.values()))
    held = deployments_of(models, with_aliases=True)
    assert {one.id: one.name for one in held.values()} == {
        "base-0": "base",
        "base-0/b": "b",
        "base-0/adapter": "adapter",
    }
    assert {one.replica_id for one in held.values()} == {"base-0"}
    assert set(deployments_of(models)) == {"base-0", "base-0/adapter"}


def test_fields_that_litellm_does_not_know_go_past_it():
    body = b'{"model":"m","messages":[],"top_k":3,"api_base":"http://evil","stream":true}'
    call = read_call("/v1/chat/completions", "application/json", body)
    arguments = engine_arguments_of(OPERATIONS["/v1/chat/completions"], call, "m", {"a": "b"}, {}, 5.0)
    assert arguments["extra_body"] == {"api_base": "http://evil", "top_k": 3}
    assert "api_base" not in arguments
    assert arguments["stream_options"] == {"include_usage": True}
    messages = read_call("/v1/messages", "application/json", body)
    with pytest.raises(ApiError, match="Unrecognised"):
        engine_arguments_of(OPERATIONS["/v1/messages"], messages, "m", {}, {}, 5.0)


def test_settings_are_read_and_what_the_gateway_decides_is_refused(tmp_path: Path):
    file = tmp_path / "litellm.yaml"
    file.write_text("litellm_settings: {callbacks: [langfuse], drop_params: true}")
    assert read_settings(file) == {"callbacks": ["langfuse"], "drop_params": True}
    for text, reason in (
        ("model_list: []", "the fleet decides model_list"),
        ("litellm_settings: {num_retries: 3}", "num_retries"),
        ("litellm_settings: {callbacks: langfuse}", "list of names"),
        ("- a", "mapping"),
        ("a: [", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(LiteLlmConfigError, match=reason):
            read_settings(file)
    with pytest.raises(LiteLlmConfigError, match="cannot be read"):
        read_settings(tmp_path / "nowhere")


def test_plugin_says_what_its_environment_lacks():
    full = {"STUDIO_COORDINATOR": "a:1, b", "STUDIO_GATEWAY_STATE_DIR": "/state", "STUDIO_GATEWAY_TOKEN_FILE": "/token"}
    settings = Settings.of(full)
    assert [str(one) for one in settings.coordinators] == ["a:1", "b:7070"]
    assert (settings.state_dir, settings.token_file) == (Path("/state"), Path("/token"))
    for missing in ("STUDIO_COORDINATOR", "STUDIO_GATEWAY_STATE_DIR"):
        with pytest.raises(ValueError, match=missing):
            Settings.of({name: value for name, value in full.items() if name != missing})
