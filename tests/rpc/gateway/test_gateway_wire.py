"""The gateway's own HTTP, byte by byte over a plain socket: framing, reuse, deadlines, and what must never pass."""

import asyncio
import json
import re
from collections.abc import Iterator

import pytest
from fakes.front_door import KEY, FrontDoor, a_route, front_door
from fakes.upstream import Received, Upstream, answers, chat_answer, chat_chunks, head, says_nothing, streams
from fakes.wire import BODY, STREAM, a_request, in_chunks, wire
from studio_gateway.limits import Limits


async def test_one_connection_carries_many_requests_and_so_does_the_engines():
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        for _ in range(3):
            client.send(a_request())
            status, fields, body = await client.answer()
            assert (status, json.loads(body)) == (200, chat_answer())
            assert "connection" not in fields
        assert {request.connection for request in upstream.received} == {1}


async def test_requests_sent_ahead_wait_for_a_client_that_does_not_read():
    """Else a few kilobytes of requests would be gigabytes of answers in memory."""
    answer, count = b"x" * (900 * 1024), 30
    async with (
        Upstream(answers(answer)) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        wire(door) as client,
    ):
        client.send(a_request() * count)
        await client.reader.readexactly(1)
        before = -1
        while len(upstream.received) > before:
            before = len(upstream.received)
            await asyncio.sleep(0.2)
        # What the kernel's buffers hold has left the gateway.
        assert before < count / 2
        rest = await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(len(answer)) == answer
        for _ in range(count - 1):
            assert (await client.answer())[2] == answer
        assert b"200 OK" in rest


async def test_requests_sent_ahead_are_answered_in_order():
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        upstream.script = answers({"answer": 1})
        names = [f"r{number}" for number in range(5)]
        client.send(b"".join(a_request(BODY, f"X-Request-Id: {name}") for name in names))
        assert [(await client.answer())[1]["x-request-id"] for _ in names] == names
        assert [request.headers["x-request-id"] for request in upstream.received] == names


async def test_requests_cut_into_single_bytes_are_read():
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        for data in (a_request(), in_chunks(b'{"model":', b'"tiny"}')):
            for number in range(len(data)):
                client.send(data[number : number + 1])
                await asyncio.sleep(0)
            assert (await client.answer())[0] == 200
        assert [request.body for request in upstream.received] == [BODY, BODY]


async def test_bodies_in_chunks_reach_the_engine_with_their_length():
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        client.send(in_chunks(b'{"model":', b'"tiny"}') + a_request())
        assert (await client.answer())[0] == (await client.answer())[0] == 200
        request = await upstream.request()
        assert (request.body, request.headers["content-length"]) == (BODY, str(len(BODY)))
        assert "transfer-encoding" not in request.headers


async def test_client_that_waits_for_leave_gets_it_and_one_without_a_key_does_not():
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with wire(door) as client:
            head_only = a_request(BODY, "Expect: 100-continue")[: -len(BODY)]
            client.send(head_only)
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(BODY)
            assert (await client.answer())[0] == 200
        async with wire(door) as client:
            client.send(head_only.replace(KEY.encode(), b"sk-no"))
            assert (await client.rest()).startswith(b"HTTP/1.1 401")


async def test_http10_gets_a_stream_that_ends_with_the_connection():
    chunks = chat_chunks("a", with_usage=False)
    async with (
        Upstream(streams(chunks)) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        wire(door) as client,
    ):
        client.send(a_request(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))
        text = await client.rest()
        assert b"transfer-encoding" not in text
        assert text.endswith(b"\r\n\r\n" + b"".join(chunks))


async def test_answers_to_head_have_no_body_and_the_next_request_is_answered():
    script = answers({"id": "x"})
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:

        async def no_body(request: Received, writer: asyncio.StreamWriter) -> None:
            if request.method == "HEAD":
                writer.write(head(200, "Content-Type: application/json", "Content-Length: 77"))
                await writer.drain()
            else:
                await script(request, writer)

        upstream.script = no_body
        client.send(a_request(b"", "x-studio-model: tiny", method="HEAD", path="/v1/responses/r1"))
        status, fields, _ = await client.answer(has_body=False)
        assert (status, fields["content-length"]) == (200, "77")
        client.send(a_request(b"", method="HEAD", path="/v1/models"))
        status, fields, _ = await client.answer(has_body=False)
        assert (status, int(fields["content-length"]) > 0) == (200, True)
        client.send(a_request())
        assert (await client.answer())[2] == b'{"id": "x"}'


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body_have_none(status: int):
    async def script(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status))
        await writer.drain()

    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        for _ in range(2):
            client.send(a_request())
            answered, fields, _ = await client.answer(has_body=False)
            assert answered == status
            assert not {"content-length", "transfer-encoding"} & fields.keys()


SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-victim\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        a_request(b"0\r\n\r\n" + SMUGGLED, "Transfer-Encoding: chunked"),
        in_chunks(last=b"0\r\n\r\n" + SMUGGLED, lines=("Content-Length: 4",)),
        in_chunks(last=b"0\r\n\r\n" + SMUGGLED, lines=("Transfer-Encoding: identity",)),
        in_chunks(last=b"5;x=\n\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
        in_chunks(last=b"0\n\n" + SMUGGLED),
        a_request(BODY, "Content-Length: 0"),
        a_request(BODY, "X: 1\r\n Content-Length: 0"),
        a_request(BODY, "X: 1\nContent-Length: 0"),
        a_request(BODY).replace(b"Content-Length:", b"Content-Length :"),
        a_request(BODY).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_requests_that_could_be_read_in_two_ways_are_refused_and_the_connection_closed(data: bytes):
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        client.send(data)
        text = await client.rest()
        assert text.startswith(b"HTTP/1.1 400")
        # One answer, and nothing of what may have been meant as a second request.
        assert len(re.findall(rb"HTTP/1\.1 \d", text)) == 1
        assert upstream.received == []


async def test_what_an_engine_says_behind_its_answer_never_reaches_another_request():
    poison = answers({"stolen": True})

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        await answers({"answer": request.headers["x-request-id"]})(request, writer)
        await poison(request, writer)

    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        for number in range(5):
            client.send(a_request(BODY, f"X-Request-Id: {number}"))
            _, _, body = await client.answer()
            assert json.loads(body) == {"answer": str(number)}


@pytest.mark.parametrize(
    "raw",
    [
        head(200, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head(200, "Content-Length: 2", "Content-Length: 3") + b"{}",
        head(200, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"2;x\r\n{}\r\n0\r\n\r\n",
        head(200, "Content-Length : 2") + b"{}",
    ],
)
async def test_answers_that_could_be_read_in_two_ways_are_a_502(raw: bytes):
    async def script(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        client.send(a_request())
        assert (await client.answer())[0] == 502
        assert len(upstream.received) == 1


async def test_words_before_the_answer_stay_between_gateway_and_engine():
    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await answers({"id": 1})(request, writer)

    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        client.send(a_request())
        status, fields, body = await client.answer()
        assert (status, body) == (200, b'{"id": 1}')
        assert "link" not in fields


async def test_slow_heads_and_bodies_are_ended_and_others_do_not_notice():
    limits = Limits(head_seconds=0.3, body_idle_seconds=0.3, body_seconds=0.6)
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url), limits=limits) as door:

        async def drip(data: bytes) -> bytes:
            async with wire(door) as client:
                reading = asyncio.create_task(client.rest())
                for number in range(len(data)):
                    if reading.done():
                        break
                    client.send(data[number : number + 1])
                    await asyncio.sleep(0.05)
                return await reading

        async def without_a_word() -> bytes:
            async with wire(door) as client:
                return await client.rest()

        async with asyncio.TaskGroup() as tasks:
            heads = [tasks.create_task(drip(a_request())) for _ in range(20)]
            whole_head = a_request(BODY * 40)[: -len(BODY) * 40]
            bodies = [tasks.create_task(drip_body(door, whole_head)) for _ in range(20)]
            silent = [tasks.create_task(without_a_word()) for _ in range(20)]
            for _ in range(10):
                async with wire(door) as client:
                    client.send(a_request())
                    assert (await client.answer())[0] == 200
        assert all(task.result().startswith(b"HTTP/1.1 408") for task in heads)
        assert all(task.result().startswith(b"HTTP/1.1 408") for task in bodies)
        assert [task.result() for task in silent] == [b""] * 20


async def drip_body(door: FrontDoor, whole_head: bytes) -> bytes:
    """Send a body that never ends, a byte at a time: always something, never enough."""
    async with wire(door) as client:
        reading = asyncio.create_task(client.rest())
        client.send(whole_head)
        while not reading.done():
            client.send(b" ")
            await asyncio.sleep(0.05)
        return await reading


async def test_head_without_end_is_431():
    async with front_door(a_route("tiny")) as door, wire(door) as client:
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431")


async def test_body_in_chunks_over_the_limit_is_413():
    async with front_door(a_route("tiny"), limits=Limits(body_bytes=1000)) as door, wire(door) as client:
        client.send(in_chunks(b"x" * 600, b"x" * 600))
        assert (await client.rest()).startswith(b"HTTP/1.1 413")


async def test_key_has_a_bound_on_what_it_runs_at_once():
    async with (
        Upstream(says_nothing()) as upstream,
        front_door(a_route("tiny", upstream.url), limits=Limits(requests_per_key=2)) as door,
    ):
        async with wire(door) as one, wire(door) as two:
            one.send(a_request())
            two.send(a_request())
            await upstream.request(1)
            async with wire(door) as three:
                three.send(a_request())
                text = await three.rest()
                assert text.startswith(b"HTTP/1.1 429")
                assert b"retry-after: 1" in text
        upstream.script = answers(chat_answer())
        await door.record(1)
        async with wire(door) as client:
            client.send(a_request())
            assert (await client.answer())[0] == 200


async def test_json_that_is_nested_too_deeply_is_refused_and_brackets_in_texts_are_none():
    async with (
        Upstream() as upstream,
        front_door(a_route("tiny", upstream.url), limits=Limits(json_depth=10)) as door,
        wire(door) as client,
    ):
        for body, status in (
            (b'{"model":"tiny","x":' + b"[" * 9 + b"]" * 9 + b"}", 200),
            (b'{"model":"tiny","x":' + b"[" * 10 + b"]" * 10 + b"}", 400),
            (json.dumps({"model": "tiny", "x": '[{"\\' * 50}).encode(), 200),
            (b'{"model":"tiny","x":[' + b"[],{}," * 50 + b"1]}", 200),
        ):
            client.send(a_request(body))
            assert (await client.answer())[0] == status, body[:60]


async def test_client_that_floods_while_it_is_answered_is_bounded_and_still_answered():
    gate = asyncio.Event()
    script = streams(chat_chunks("a"), gate=gate)
    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door, wire(door) as client:
        client.send(a_request(STREAM))
        await upstream.request()
        client.send(a_request() * 5000)
        gate.set()
        status, _, body = await client.answer()
        assert (status, body.endswith(b"[DONE]\n\n")) == (200, True)


async def test_slow_reader_holds_back_its_engine_and_gets_everything_in_the_end():
    event, count, sent = b"data: " + b"x" * 60_000 + b"\n\n", 500, 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(count):
            sent += 1
            yield event
        yield b"data: [DONE]\n\n"

    async with (
        Upstream(streams(pieces())) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        wire(door) as client,
    ):
        client.send(a_request(STREAM))
        await upstream.request()
        before, still = -1, 0
        while still < 20:
            before, still = sent, still + 1 if before == sent else 0
            await asyncio.sleep(0.01)
        # The kernel's buffers hold some megabytes; the gateway itself next to nothing.
        assert sent < count
        assert (await client.answer(seconds=60))[2] == event * count + b"data: [DONE]\n\n"


async def test_client_that_has_just_connected_is_still_answered_by_a_server_that_stops():
    async with (
        Upstream() as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        wire(door) as used,
        wire(door) as fresh,
    ):
        used.send(a_request())
        assert (await used.answer())[0] == 200
        # Accepted, by now, and silent so far.
        door.serving.cancel()
        assert await used.rest() == b""
        fresh.send(a_request())
        status, fields, _ = await fresh.answer()
        assert (status, fields["connection"]) == (200, "close")
