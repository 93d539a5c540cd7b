"""Another model answers instead: on outage, overload and a context that is too long; never after a byte has left."""

import pytest
from fakes.front_door import FrontDoor, a_route, front_door
from fakes.ports import free_port
from fakes.upstream import Script, Upstream, answers, chat_answer, chat_chunks, sends, streams
from studio.v1.route_pb2 import ProviderRoute

CHAT = "/v1/chat/completions"
TOO_LONG = {
    "error": {
        "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
        "type": "BadRequestError",
        "code": 400,
    }
}
OTHER = answers(chat_answer("from the other", model="other"))


async def ask(door: FrontDoor, **fields: object) -> tuple[int, str]:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
    async with door.client.post(door.url + CHAT, json=body) as response:
        return response.status, (await response.read()).decode()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answers({"error": {"message": "busy"}}, 503), id="503"),
        pytest.param(answers({"error": {"message": "too many"}}, 429), id="429"),
        pytest.param(answers({"error": {"message": "oops"}}, 500), id="500"),
        pytest.param(answers(TOO_LONG, 400), id="context too long"),
        pytest.param(sends(b"what?\r\n\r\n"), id="not HTTP"),
    ],
)
async def test_the_other_model_answers(script: Script):
    async with (
        Upstream(script) as engine,
        Upstream(OTHER) as other,
        front_door(a_route("tiny", engine.url, fallbacks=["gone", "other"]), a_route("other", other.url)) as door,
    ):
        status, answer = await ask(door)
        assert (status, "from the other" in answer) == (200, True)
        assert (await other.request()).document["model"] == "other"
        record = await door.record()
        # It counts once, as what answered it.
        assert (record.model, record.replica_id, record.status) == ("other", "other-0", 200)
        assert len(door.records) == 1
        assert door.metric("fallbacks_total") == 1


async def test_a_model_that_nothing_serves_falls_back_too():
    async with (
        Upstream(OTHER) as other,
        front_door(a_route("tiny", fallbacks=["other"]), a_route("other", other.url)) as door,
    ):
        assert (await ask(door))[0] == 200


async def test_what_is_another_tenants_does_not_answer():
    async with (
        Upstream(OTHER) as other,
        front_door(a_route("tiny", fallbacks=["other"]), a_route("other", other.url, tenant="somebody-else")) as door,
    ):
        assert (await ask(door))[0] == 503
        assert not other.received


async def test_an_engine_that_cannot_be_reached():
    async with (
        Upstream(streams(chat_chunks("a", model="other"))) as other,
        front_door(
            a_route("tiny", f"http://127.0.0.1:{free_port()}", fallbacks=["other"]), a_route("other", other.url)
        ) as door,
    ):
        status, answer = await ask(door, stream=True)
        assert (status, answer.count("[DONE]")) == (200, 1)


async def test_the_last_one_is_heard_as_it_is():
    async with (
        Upstream(answers({"error": {"message": "busy"}}, 503)) as engine,
        Upstream(answers(TOO_LONG, 400)) as other,
        front_door(a_route("tiny", engine.url, fallbacks=["other"]), a_route("other", other.url)) as door,
    ):
        status, answer = await ask(door)
        assert (status, "maximum context length" in answer) == (400, True)


async def test_what_the_client_did_wrong_is_told_to_the_client():
    mistake = {"error": {"message": "temperature must be a number", "code": 400}}
    async with (
        Upstream(answers(mistake, 400)) as engine,
        Upstream(OTHER) as other,
        front_door(a_route("tiny", engine.url, fallbacks=["other"]), a_route("other", other.url)) as door,
    ):
        status, answer = await ask(door)
        assert (status, "temperature" in answer) == (400, True)
        assert not other.received


async def test_once_an_answer_has_begun_there_is_no_other():
    async with (
        Upstream(streams(chat_chunks("a", "b")[:1], then="die")) as engine,
        Upstream(OTHER) as other,
        front_door(a_route("tiny", engine.url, fallbacks=["other"]), a_route("other", other.url)) as door,
    ):
        status, answer = await ask(door, stream=True)
        assert (status, '{"error"' in answer) == (200, True)
        assert not other.received


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning")
async def test_from_the_fleet_to_a_provider_and_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TEST_PROVIDER_KEY", "provider-secret")
    async with (
        Upstream(answers({"error": {"message": "busy"}}, 503)) as engine,
        Upstream(answers(chat_answer("from the provider", model="gpt-x"))) as provider,
        front_door(
            a_route("tiny", engine.url, fallbacks=["far"]),
            providers=(
                ProviderRoute(
                    model="far",
                    provider_model="openai/gpt-x",
                    api_base=f"{provider.url}/v1",
                    api_key_env="TEST_PROVIDER_KEY",
                    allow_private=True,
                    fallbacks=["tiny"],
                ),
            ),
            litellm=True,
        ) as door,
    ):
        status, answer = await ask(door)
        assert (status, "from the provider" in answer) == (200, True)
        engine.script = answers(chat_answer("from the fleet"))
        provider.script = answers({"error": {"message": "down"}}, 500)
        status, answer = await ask(door, model="far")
        assert (status, "from the fleet" in answer) == (200, True)
