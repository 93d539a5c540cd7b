"""The OpenAI routes of the demo engine."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import perf_counter
from typing import Any

from aiohttp import web

from studio_agent.demo_engine import request as ask
from studio_agent.demo_engine import text
from studio_agent.demo_engine.engine import DemoEngine
from studio_agent.demo_engine.openai_objects import Answer, ApiError, model_list

ENGINE = web.AppKey("engine", DemoEngine)
MALFORMED_EVENT = b'data: {"choices": [{"delta": {"content": "cut of\n\n'
routes = web.RouteTableDef()


@routes.get("/v1/models")
async def models(request: web.Request) -> web.Response:
    """The names it answers to."""
    engine = request.app[ENGINE]
    return web.json_response(model_list(engine.settings.model, engine.adapters, engine.settings.max_model_len))


@routes.post("/v1/chat/completions")
async def chat(request: web.Request) -> web.StreamResponse:
    """One answer to a conversation."""
    body = await read_body(request)
    return await _answer(request, body, ask.chat_prompt(body), chat=True)


@routes.post("/v1/completions")
async def completions(request: web.Request) -> web.StreamResponse:
    """One continuation of a prompt."""
    body = await read_body(request)
    return await _answer(request, body, "\n".join(ask.texts(body.get("prompt"), "prompt")), chat=False)


@routes.post("/v1/embeddings")
async def embeddings(request: web.Request) -> web.Response:
    """A vector for each text; as numbers, or as base64 of 32-bit floats."""
    engine = request.app[ENGINE]
    body = await read_body(request)
    model = ask.known_model(body, engine.model_names)
    inputs = ask.texts(body.get("input"), "input")
    size = body.get("dimensions", text.EMBEDDING_SIZE)
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= text.EMBEDDING_SIZE:
        raise ApiError(400, f"dimensions must be 1 to {text.EMBEDDING_SIZE}", param="dimensions")
    prompt_ids = [number for one in inputs for number in text.token_ids(one)]
    async with engine.slot():
        async for _ in engine.prefill(prompt_ids):
            pass
        vectors = [text.embedding(one, size) for one in inputs]
    engine.metrics.finished("stop")
    encode = _as_base64 if body.get("encoding_format") == "base64" else list
    return web.json_response(
        {
            "object": "list",
            "model": model,
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(vector)}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": len(prompt_ids), "total_tokens": len(prompt_ids)},
        }
    )


@routes.post("/tokenize")
async def tokenize(request: web.Request) -> web.Response:
    """Count and number the tokens of a prompt or conversation, as vLLM's route does."""
    engine = request.app[ENGINE]
    settings = engine.settings
    body = await read_body(request)
    ask.known_model({"model": settings.model[0], **body}, engine.model_names)
    prompt = ask.chat_prompt(body) if "messages" in body else "\n".join(ask.texts(body.get("prompt"), "prompt"))
    numbers = text.token_ids(prompt)
    return web.json_response({"count": len(numbers), "max_model_len": settings.max_model_len, "tokens": numbers})


async def read_body(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises ApiError (400)."""
    try:
        body = await request.json()
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


async def _answer(request: web.Request, body: dict[str, Any], prompt: str, chat: bool) -> web.StreamResponse:
    arrived = perf_counter()
    engine = request.app[ENGINE]
    asked = ask.completion(body, prompt, engine.model_names, engine.settings.max_model_len)
    if engine.sleep_level is not None:
        raise ApiError(503, "the engine sleeps; wake it with POST /wake_up", code="engine_paused")
    answer = Answer(asked.model, chat)
    async with engine.slot(), aclosing(engine.emit(asked.prompt_ids, asked.tokens, arrived)) as tokens:
        response: web.StreamResponse
        if asked.stream:
            response = await _stream(request, asked, answer, tokens)
        else:
            content = "".join([token async for token in tokens])
            response = web.json_response(answer.whole(content, asked.finish_reason, asked.usage()))
    engine.metrics.finished(asked.finish_reason)
    return response


async def _stream(
    request: web.Request, asked: ask.Ask, answer: Answer, tokens: AsyncIterator[str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    malformed = request.app[ENGINE].settings.malformed_events
    opening = answer.opening()
    if opening is not None:
        await response.write(_event(opening))
    async for token in tokens:
        await response.write(_event(answer.token(token)))
        if malformed:
            await response.write(MALFORMED_EVENT)
            malformed = False
    await response.write(_event(answer.closing(asked.finish_reason)))
    if asked.include_usage:
        await response.write(_event(answer.usage(asked.usage())))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def _as_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
