"""Anthropic's route of the demo engine: the same answers in the other dialect."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import perf_counter
from typing import Any
from uuid import uuid4

from aiohttp import web

from studio_agent.demo_engine import request as ask
from studio_agent.demo_engine.api import ENGINE, read_body
from studio_agent.demo_engine.openai_objects import ApiError

STOP_REASONS = {"length": "max_tokens", "stop": "end_turn"}
routes = web.RouteTableDef()


@routes.post("/v1/messages")
async def messages(request: web.Request) -> web.StreamResponse:
    """One answer to a conversation."""
    arrived = perf_counter()
    engine = request.app[ENGINE]
    body = await read_body(request)
    if "max_tokens" not in body:
        raise ApiError(400, "max_tokens is required", param="max_tokens")
    asked = ask.completion(body, _prompt(body), engine.model_names, engine.settings.max_model_len)
    message: dict[str, Any] = {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": len(asked.prompt_ids), "output_tokens": 0},
    }
    async with engine.slot(), aclosing(engine.emit(asked.prompt_ids, asked.tokens, arrived)) as tokens:
        response: web.StreamResponse
        if asked.stream:
            response = await _stream(request, message, asked, tokens)
        else:
            said = {"type": "text", "text": "".join([token async for token in tokens])}
            response = web.json_response(message | {"content": [said]} | _end(asked, len(asked.prompt_ids)))
    engine.metrics.finished(asked.finish_reason)
    return response


def _prompt(body: dict[str, Any]) -> str:
    spoken = body.get("messages")
    if "system" in body and isinstance(spoken, list) and spoken:
        spoken = [{"role": "system", "content": body["system"]}, *spoken]
    return ask.chat_prompt({"messages": spoken})


def _end(asked: ask.Ask, prompt_tokens: int) -> dict[str, Any]:
    usage = {"input_tokens": prompt_tokens, "output_tokens": len(asked.tokens)}
    return {"stop_reason": STOP_REASONS[asked.finish_reason], "stop_sequence": None, "usage": usage}


async def _stream(
    request: web.Request, message: dict[str, Any], asked: ask.Ask, tokens: AsyncIterator[str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)

    async def send(kind: str, **fields: Any) -> None:
        data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
        await response.write(f"event: {kind}\ndata: {data}\n\n".encode())

    await send("message_start", message=message)
    await send("content_block_start", index=0, content_block={"type": "text", "text": ""})
    async for token in tokens:
        await send("content_block_delta", index=0, delta={"type": "text_delta", "text": token})
    await send("content_block_stop", index=0)
    end = _end(asked, len(asked.prompt_ids))
    usage = end.pop("usage")
    await send("message_delta", delta=end, usage=usage)
    await send("message_stop")
    await response.write_eof()
    return response
