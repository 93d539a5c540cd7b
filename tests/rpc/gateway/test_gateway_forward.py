"""Requests through the real gateway to a scripted engine: what arrives there, and what comes back."""

import asyncio
import io
import json

import aiohttp
import pytest
from fakes.front_door import KEY, a_route, front_door
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, event, head, says_nothing, sends, streams
from studio_gateway.limits import Limits
from yarl import URL

CHAT = "/v1/chat/completions"


async def test_body_and_answer_are_passed_byte_for_byte():
    body = b'{ "model" : "tiny", "x": 1.50, "big": 12345678901234567890, "text":"\\u00e9\xc3\xa9" }'
    answer = b'{ "odd" : [ 1.0, 2 ] , "usage":{"prompt_tokens":5,"completion_tokens":2} }'
    async with Upstream(answers(answer)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(URL(f"{door.url}/v1/some/path?a=1&b=%2F", encoded=True), data=body) as response:
            assert await response.read() == answer
        request = await upstream.request()
        assert (request.method, request.target, request.body) == ("POST", "/v1/some/path?a=1&b=%2F", body)
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens, record.status) == (5, 2, 200)


async def test_headers_that_are_the_gateways_business_stop_there():
    leaking = ("Server: uvicorn", "X-LiteLLM-Key: 1", "Set-Cookie: a=b", "Via: engine-7", "X-Own: kept")
    async with Upstream(answers({}, 200, *leaking)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        headers = {
            "Cookie": "a=b",
            "X-Request-Id": "mine-1",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "X-Own": "kept",
        }
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}, headers=headers) as response:
            answered = {name.lower(): value for name, value in response.headers.items()}
        sent = (await upstream.request()).headers
        assert not {"authorization", "cookie", "accept-encoding"} & sent.keys()
        assert sent["x-request-id"] == answered["x-request-id"] == "mine-1"
        assert sent["x-own"] == answered["x-own"] == "kept"
        assert sent["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
        assert not {"server", "x-litellm-key", "set-cookie", "via"} & answered.keys()
        # The client's id is never what usage is counted by.
        assert (await door.record()).request_id != "mine-1"


async def test_alias_and_engine_name_are_translated_and_nothing_else():
    async with Upstream() as upstream:
        route = a_route("tiny", upstream.url, aliases=["small"])
        route.endpoints[0].engine_model = "org/tiny-model"
        async with front_door(route) as door:
            async with door.client.post(door.url + CHAT, data=b'{"model":"small","n":1.0}') as response:
                assert response.status == 200
            assert (await upstream.request()).body == b'{"model":"org/tiny-model","n":1.0}'
            assert (await door.record()).model == "tiny"


async def test_usage_is_asked_for_and_its_event_taken_out_again():
    chunks = chat_chunks("a", "b")
    async with Upstream(streams(chunks)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            received = await response.read()
        assert received == b"".join(chunk for chunk in chunks if b"usage" not in chunk)
        assert (await upstream.request()).document["stream_options"] == {"include_usage": True}
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens, record.finish, record.stream) == (7, 2, "stop", True)
        assert record.HasField("time_to_first_token_seconds")


async def test_usage_event_stays_for_a_client_that_asked():
    chunks = chat_chunks("a")
    async with Upstream(streams(chunks)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        asked = {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}}
        async with door.client.post(door.url + CHAT, json=asked) as response:
            assert await response.read() == b"".join(chunks)
        assert (await door.record()).completion_tokens == 1


async def test_events_that_straddle_reads_come_out_whole():
    whole = b"".join(chat_chunks("a", "b", "c"))
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    async with Upstream(streams(pieces)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            received = await response.read()
        assert received == b"".join(chunk for chunk in chat_chunks("a", "b", "c") if b"usage" not in chunk)


async def test_engine_that_dies_in_a_stream_ends_it_with_an_error_event():
    chunks = [*chat_chunks("a")[:1], b'data: {"half']
    async with Upstream(streams(chunks, then="die")) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            received = (await response.read()).decode()
        last = received.strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_error"
        assert "half" not in received
        record = await door.record()
        assert (record.finish, record.status) == ("upstream_error", 200)


async def test_events_that_are_no_json_pass_as_they_are_and_cost_nothing_but_themselves():
    first, *rest = chat_chunks("a", "b")
    bad = b'data: {"choices": [{"finish_reason": "us\n\n', b'data: {"usage": {{{\n\n', b"data: \xff\xfe\n\n"
    async with Upstream(streams([first, *bad, *rest])) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            received = await response.read()
        assert received == b"".join([first, *bad, *(event for event in rest if b"total_tokens" not in event)])
        assert (await door.record()).completion_tokens == 2
        assert len(upstream.received) == 1, "a stream is never begun anew: its tokens would come twice"


async def test_connection_that_simply_ends_without_done_is_an_error_too():
    raw = head(200, "Content-Type: text/event-stream", "Connection: close") + chat_chunks("a")[0]
    async with (
        Upstream(sends(raw)) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response,
    ):
        assert b"upstream_error" in await response.read()


async def test_stalled_stream_ends_after_the_idle_time():
    limits = Limits(idle_seconds=0.2)
    script = streams(chat_chunks("a")[:1], then="hang")
    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url), limits=limits) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            assert b"upstream_timeout" in await response.read()
        await asyncio.wait_for((await upstream.request()).gone.wait(), 5)
        assert (await door.record()).finish == "timeout"


async def test_engine_that_never_answers_is_a_504():
    limits = Limits(first_byte_seconds=0.2)
    async with (
        Upstream(says_nothing()) as upstream,
        front_door(a_route("tiny", upstream.url), limits=limits) as door,
        door.client.post(door.url + CHAT, json={"model": "tiny"}) as response,
    ):
        assert response.status == 504
        assert (await response.json())["error"]["code"] == "upstream_timeout"


async def test_engine_that_does_not_speak_http_is_a_502():
    async with (
        Upstream(sends(b"SSH-2.0-OpenSSH\r\n\r\n")) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
    ):
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 502
            text = await response.text()
        assert "127.0.0.1" not in text


async def test_answer_that_breaks_off_is_a_502_and_not_half_an_answer():
    raw = head(200, "Content-Type: application/json", "Content-Length: 1000") + b'{"half":'
    async with (
        Upstream(sends(raw)) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        door.client.post(door.url + CHAT, json={"model": "tiny"}) as response,
    ):
        assert response.status == 502


async def test_large_answer_that_breaks_off_ends_the_connection():
    raw = head(200, "Content-Type: application/json", "Content-Length: 3000000") + b"x" * 2_000_000
    async with Upstream(sends(raw)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert (await door.record()).finish == "upstream_error"


async def test_large_bodies_pass_both_ways_and_are_counted():
    answer = json.dumps({"data": "y" * 3_000_000, "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode()
    body = json.dumps({"model": "tiny", "input": "x" * 3_000_000}).encode()
    async with Upstream(answers(answer)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(f"{door.url}/v1/embeddings", data=io.BytesIO(body)) as response:
            assert await response.read() == answer
        assert (await upstream.request()).body == body
        assert (await door.record()).prompt_tokens == 9


async def test_unreachable_engine_is_retried_on_another_and_ejected():
    async with Upstream() as dead:
        gone = dead.url
    async with Upstream() as alive, front_door(a_route("tiny", gone, alive.url)) as door:
        for _ in range(6):
            async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
                assert response.status == 200
        assert len(alive.received) == 6
        # Ejected after the first failure, so not met again.
        assert door.metric("ejections_total") == 1
        assert {record.replica_id for record in door.records} == {"tiny-1"}


async def test_no_engine_reachable_is_a_502_after_two_attempts():
    async with Upstream() as dead:
        gone = dead.url
    async with front_door(a_route("tiny", gone)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 502
            assert (await response.json())["error"]["code"] == "upstream_error"
        assert door.metric("retries_total") == 1


async def test_connection_that_breaks_before_the_answer_is_retried_once():
    async with Upstream() as upstream:
        upstream.script = sends(b"")
        async with front_door(a_route("tiny", upstream.url)) as door:
            async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
                assert response.status == 502
            assert len(upstream.received) == 2


async def test_broken_answer_is_never_retried():
    raw = head(200, "Content-Type: application/json", "Content-Length: 10") + b"{"
    async with Upstream(sends(raw)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 502
        assert len(upstream.received) == 1


async def test_client_that_leaves_a_stream_frees_the_engine():
    script = streams(chat_chunks("a")[:1], then="hang")
    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            await response.content.readany()
            response.close()
        await asyncio.wait_for((await upstream.request()).gone.wait(), 1)
        record = await door.record()
        assert (record.finish, record.status) == ("client_gone", 499)
        assert door.in_force.standings.of("tiny-0").in_flight == 0


async def test_client_that_leaves_before_the_answer_frees_the_engine():
    async with Upstream(says_nothing()) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        asking = asyncio.create_task(door.client.post(door.url + CHAT, json={"model": "tiny"}))
        request = await upstream.request()
        asking.cancel()
        await asyncio.wait_for(request.gone.wait(), 1)
        assert (await door.record()).finish == "client_gone"


async def test_streams_go_on_when_their_endpoint_loses_its_route():
    gate = asyncio.Event()
    chunks = chat_chunks("a", "b")
    async with Upstream(streams(chunks, gate=gate)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            first = await response.content.readany()
            table = door.in_force.route_table
            assert table is not None
            del table.routes[:]
            table.version += 1
            door.in_force.put_routes(table)
            gate.set()
            rest = await response.read()
        assert (first + rest).endswith(event(b"[DONE]"))


async def test_least_loaded_engine_is_picked():
    async with (
        Upstream(says_nothing()) as one,
        Upstream(says_nothing()) as two,
        front_door(a_route("tiny", one.url, two.url)) as door,
    ):
        waiting = asyncio.create_task(door.client.post(door.url + CHAT, json={"model": "tiny"}))
        while not (one.received or two.received):
            await asyncio.sleep(0.005)
        busy, idle = (one, two) if one.received else (two, one)
        idle.script = answers(chat_answer())
        for _ in range(4):
            async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
                assert response.status == 200
        assert (len(busy.received), len(idle.received)) == (1, 4)
        waiting.cancel()


async def test_engine_errors_pass_as_they_are():
    body = {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}}
    async with Upstream(answers(body, 400)) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 400
            assert await response.json() == body
        assert (await door.record()).finish == "rejected"


async def test_multipart_requests_find_their_model():
    form = aiohttp.FormData()
    form.add_field("file", b'RIFF\x00\r\n--not-a-boundary\r\nname="model"\xff', filename="model.wav; name=model")
    form.add_field("model", "tiny")
    async with Upstream(answers({"text": "hi"})) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(f"{door.url}/v1/audio/transcriptions", data=form) as response:
            assert response.status == 200
        sent = await upstream.request()
        assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert b"not-a-boundary" in sent.body


async def test_request_without_a_body_names_its_model_in_a_header():
    async with Upstream(answers({"id": "resp_1"})) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        url = f"{door.url}/v1/responses/resp_1"
        async with door.client.get(url) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "missing_model")
        async with door.client.get(url, headers={"x-studio-model": "tiny"}) as response:
            assert response.status == 200
        request = await upstream.request()
        assert (request.method, request.target) == ("GET", "/v1/responses/resp_1")
        assert "x-studio-model" not in request.headers


async def test_anthropic_clients_are_understood():
    async with (
        Upstream(answers({"type": "message", "usage": {"input_tokens": 3, "output_tokens": 4}})) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        aiohttp.ClientSession() as client,
    ):
        body = {"model": "tiny", "max_tokens": 5, "messages": []}
        async with client.post(f"{door.url}/v1/messages", json=body, headers={"x-api-key": KEY}) as response:
            assert response.status == 200
        assert "x-api-key" not in (await upstream.request()).headers
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens) == (3, 4)
        async with client.post(f"{door.url}/v1/messages", json=body, headers={"x-api-key": "sk-no"}) as response:
            assert (await response.json())["type"] == "error"


async def test_requests_in_flight_are_counted_and_released():
    async with Upstream(answers(chat_answer())) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 200
        record = await door.record()
        assert record.cached_tokens == 4
        assert door.metric("requests_in_flight") == 0
        assert door.metric("requests_total", model="tiny", status="200") == 1
        assert door.metric("tokens_total", model="tiny", kind="completion") == 3
