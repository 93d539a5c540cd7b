"""The demo engine's life: bind, load, join the other ranks where there are any, listen, serve, drain."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from studio_agent.demo_engine import adapters, api, control, messages, misbehaviour
from studio_agent.demo_engine.engine import DemoEngine
from studio_agent.demo_engine.group import Group
from studio_agent.demo_engine.loading import load
from studio_agent.demo_engine.misbehaviour import ConnectionDropped
from studio_agent.demo_engine.openai_objects import ApiError
from studio_agent.demo_engine.settings import Settings

DRAIN_SECONDS = 5.0
MAX_BODY_BYTES = 32 * 1024 * 1024
log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until cancelled; then answers in flight get a short time to finish."""
    started = asyncio.get_running_loop().time()
    if settings.ignore_sigterm:
        misbehaviour.ignore_sigterm()
    memory, group = misbehaviour.MemoryClaim(settings.gpu_memory_bytes), Group(settings)
    # Bound at once, so that a taken port shows; it listens only when the engine is loaded, as vLLM's does.
    port = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind((settings.host, settings.port))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(misbehaviour.exit_later(settings, started))
            tasks.create_task(group.hold_together())
            memory.take()
            if settings.leave_child:
                misbehaviour.start_child(settings)
            await load(settings)
            await group.joined()
            if settings.node_rank:
                # Rank 0 answers for all.
                await asyncio.Event().wait()
            await _listen(port, DemoEngine(settings, memory))
    finally:
        memory.release()


async def _listen(port: socket.socket, engine: DemoEngine) -> None:
    runner = web.AppRunner(
        application(engine), handler_cancellation=True, shutdown_timeout=DRAIN_SECONDS, access_log=None
    )
    await runner.setup()
    try:
        await web.SockSite(runner, port).start()
        log.info("Starting demo engine server on http://%s:%d", *port.getsockname()[:2])
        log.info("Application startup complete.")
        await asyncio.Event().wait()
    finally:
        log.info("[shutdown] API server: shutdown triggered")
        await runner.cleanup()


def application(engine: DemoEngine) -> web.Application:
    """All routes around ``engine``."""
    app = web.Application(middlewares=[_errors, _request_line], client_max_size=MAX_BODY_BYTES)
    app[api.ENGINE] = engine
    app.add_routes(api.routes)
    app.add_routes(messages.routes)
    app.add_routes(control.routes)
    if engine.settings.enable_lora:
        app.add_routes(adapters.routes)
    return app


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionDropped:
        log.warning("Dropping the connection, as asked.")
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)
    except ApiError as error:
        return web.json_response(error.body, status=error.status)
    except web.HTTPException as error:
        refused = ApiError(error.status, error.reason)
        return web.json_response(refused.body, status=error.status)


@web.middleware
async def _request_line(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.method == "POST":
        log.info(
            "Received request %s x-request-id=%s traceparent=%s",
            request.path,
            request.headers.get("x-request-id", "-"),
            request.headers.get("traceparent", "-"),
        )
    return await handler(request)


def configure_log() -> None:
    """Lines like vLLM's, on standard error."""
    logging.basicConfig(
        level=logging.INFO,
        format=f"(APIServer pid={os.getpid()}) %(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s",
        datefmt="%m-%d %H:%M:%S",
    )
