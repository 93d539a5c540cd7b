"""What the gateway is measured against, and how each is installed and started.

Python packages go into throw-away environments under ``~/.cache/vllm-studio/bench``, one each, on first use; nginx and wrk come
from the system. A peer that cannot be had is left out, and the reason is printed.
"""

import hmac
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from processes import free_port, on_core, running
from studio.v1.route_pb2 import AccessTable, ApiKey, Endpoint, Route, RouteTable

# The gateway as wheels have it, where `make bench-gateway` has compiled it.
COMPILED = Path(__file__).parents[1] / "build" / "compiled"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vllm-studio" / "bench"
KEY = "sk-benchmark000-" + "x" * 43

# A running peer: its port and its process id.
Running = AbstractContextManager[tuple[int, int]]
# (core, the engine's port, a folder for its files) to a running peer.
Start = Callable[[int, int, Path], Running]


def _environment(name: str, *packages: str) -> Path:
    """The folder of programs of an environment that holds ``packages``; made on first use."""
    folder = CACHE / name
    done = folder / ".done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(folder / "bin" / "pip"), "install", "--quiet", *packages], check=True, stderr=subprocess.DEVNULL
        )
        done.touch()
    return folder / "bin"


@contextmanager
def ours(core: int, engine_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """The gateway, its tables from a last good copy; keys, limits, accounting to a coordinator and metrics are on."""
    if not COMPILED.exists():
        raise RuntimeError("it is not compiled as wheels have it: run `make build/compiled/.done`")
    endpoint = Endpoint(replica_id="tiny-0", base_url=f"http://127.0.0.1:{engine_port}", weight=1)
    routes = RouteTable(version=1, term=1, routes=[Route(model="tiny", endpoints=[endpoint])])
    key = ApiKey(id="benchmark000", tenant="bench", hash=hmac.digest(b"pepper", KEY.encode(), "sha256"))
    access = AccessTable(version=1, pepper=b"pepper", keys=[key])
    (folder / "last-good-routes.binpb").write_bytes(routes.SerializeToString())
    (folder / "last-good-access.binpb").write_bytes(access.SerializeToString())
    port, coordinator_port = free_port(), free_port()
    argv = [sys.executable, "-m", "studio_gateway", "--listen", f"127.0.0.1:{port}"]
    argv += ["--coordinator", f"127.0.0.1:{coordinator_port}"]
    argv += ["--state-dir", str(folder), "--metrics", "127.0.0.1:0", "--log-level", "error"]
    script = Path(__file__).with_name("coordinator.py")
    # Beside the load: only the gateway is measured.
    coordinator = on_core(max(os.sched_getaffinity(0)), [sys.executable, str(script), str(coordinator_port)])
    with (
        running(coordinator, folder / "coordinator.log", coordinator_port),
        running(on_core(core, argv), folder / "log", port, {"PYTHONPATH": str(COMPILED)}) as pid,
    ):
        yield port, pid


@contextmanager
def vllm_router(core: int, engine_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """VLLM's router, in Rust."""
    port = free_port()
    argv = [str(_environment("vllm-router", "vllm-router") / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", f"http://127.0.0.1:{engine_port}", "--policy", "round_robin", "--log-level", "error"]
    argv += ["--prometheus-port", str(free_port()), "--prometheus-host", "127.0.0.1"]
    with running(on_core(core, argv), folder / "log", port) as pid:
        yield port, pid


@contextmanager
def sglang_router(core: int, engine_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """SGLang's router, in Rust."""
    port = free_port()
    python = _environment("sglang-router", "sglang-router") / "python"
    argv = [str(python), "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", f"http://127.0.0.1:{engine_port}", "--policy", "round_robin", "--log-level", "error"]
    argv += ["--worker-startup-check-interval", "1", "--prometheus-port", str(free_port())]
    with running(on_core(core, argv), folder / "log", port) as pid:
        yield port, pid


@contextmanager
def litellm(core: int, engine_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """LiteLLM's proxy application, one worker, with a master key."""
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(
        f"model_list: [{{model_name: tiny, litellm_params: {{model: openai/tiny, api_key: none,"
        f" api_base: 'http://127.0.0.1:{engine_port}/v1'}}}}]\ngeneral_settings: {{master_key: {KEY}}}\n"
    )
    argv = [str(_environment("litellm", "litellm[proxy]", "prisma") / "litellm"), "--config", str(config)]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with running(on_core(core, argv), folder / "log", port, environment) as pid:
        yield port, pid


@contextmanager
def nginx(core: int, engine_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """Nginx as a plain reverse proxy: one worker, no keys, no counting; what a proxy in C costs."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        raise RuntimeError("nginx is not installed")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engine {{ server 127.0.0.1:{engine_port}; keepalive 128; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""
    )
    with running(on_core(core, [program, "-c", str(config), "-p", str(folder)]), folder / "log", port) as pid:
        yield port, pid


PEERS: dict[str, Start] = {
    "ours": ours,
    "vllm-router": vllm_router,
    "sglang-router": sglang_router,
    "nginx": nginx,
    "litellm": litellm,
}
