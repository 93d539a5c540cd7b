"""The routes for those who run the engine: health, metrics, sleep."""

from importlib.metadata import version

from aiohttp import web

from studio_agent.demo_engine.api import ENGINE
from studio_agent.demo_engine.openai_objects import ApiError

routes = web.RouteTableDef()


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    """200, also while asleep, as vLLM does; 503 when told to lie."""
    failing = request.app[ENGINE].settings.health_lie == "failing"
    return web.Response(status=503 if failing else 200)


@routes.get("/version")
async def engine_version(_request: web.Request) -> web.Response:
    """Whose version it is."""
    return web.json_response({"version": version("vllm-studio"), "engine": "vllm-studio-demo"})


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    page = request.app[ENGINE].metrics.page()
    return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


@routes.post("/sleep")
async def sleep(request: web.Request) -> web.Response:
    """Sleep at `level` 1 (weights kept) or 2 (nothing kept)."""
    level = request.query.get("level", "1")
    if level not in ("1", "2"):
        raise ApiError(400, "level must be 1 or 2", param="level")
    request.app[ENGINE].sleep(int(level))
    return web.Response()


@routes.post("/wake_up")
async def wake_up(request: web.Request) -> web.Response:
    """Serve again."""
    request.app[ENGINE].wake_up()
    return web.Response()


@routes.get("/is_sleeping")
async def is_sleeping(request: web.Request) -> web.Response:
    """Whether it sleeps."""
    return web.json_response({"is_sleeping": request.app[ENGINE].sleep_level is not None})
