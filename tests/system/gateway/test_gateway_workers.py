"""Several workers behind one address: shared, replaced without a dropped stream, restarted when killed."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest
from fakes.front_door import KEY, a_route, a_route_table, an_access_table
from fakes.gateway_process import GatewayProcess, until
from fakes.ports import free_port
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, streams
from studio_gateway.last_good import LastGood
from studio_gateway.workers import AGAIN_SECONDS
from studio_runtime.process import ProcessIdentity

Start = Callable[..., Awaitable[GatewayProcess]]
CHAT = "/v1/chat/completions"


def workers_of(gateway: GatewayProcess) -> set[int]:
    return {child.pid for child in psutil.Process(gateway.process.pid).children()}


async def started(tmp_path: Path, start_gateway: Start, engine: Upstream, *options: str) -> GatewayProcess:
    copy = LastGood(tmp_path / "gateway")
    await asyncio.to_thread(copy.save, a_route_table(a_route("tiny", engine.url)))
    await asyncio.to_thread(copy.save, an_access_table())
    return await start_gateway(free_port(), "--workers", "2", *options)


async def ask(url: str) -> int:
    """One request over a connection of its own, so that any worker may get it."""
    headers = {"Authorization": f"Bearer {KEY}", "Connection": "close"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(url + CHAT, json={"model": "tiny"}) as response,
    ):
        await response.read()
        return response.status


async def test_workers_are_replaced_under_load_without_a_failure_or_a_dropped_stream(
    tmp_path: Path, start_gateway: Start
):
    gate = asyncio.Event()
    async with Upstream() as engine:
        gateway = await started(tmp_path, start_gateway, engine)
        first = workers_of(gateway)
        assert len(first) == 2
        engine.script = streams(chat_chunks("a", "b"), gate=gate)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client,
            client.post(gateway.url + CHAT, json={"model": "tiny", "stream": True}) as response,
        ):
            await response.content.readany()
            engine.script = answers(chat_answer())
            statuses: list[int] = []
            gateway.process.send_signal(signal.SIGHUP)
            while len(workers_of(gateway) - first) < 2 or len(statuses) < 20:
                statuses.append(await ask(gateway.url))
            assert set(statuses) == {200}
            # The one that has the stream is still there, the other old one goes.
            await until(lambda: len(workers_of(gateway)) == 3)
            gate.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        await until(lambda: len(workers_of(gateway)) == 2)
        assert not workers_of(gateway) & first
        assert await ask(gateway.url) == 200
        assert await gateway.terminate() == 0


async def test_a_successor_begins_with_the_newest_tables_and_not_with_those_left_in_its_folder(
    tmp_path: Path, start_gateway: Start
):
    async with Upstream() as engine:
        gateway = await started(tmp_path, start_gateway, engine)
        first = workers_of(gateway)
        engine.script = answers(chat_answer())
        for slot in (2, 3):
            left = tmp_path / f"gateway/worker-{slot}"
            left.mkdir(mode=0o700)
            gone = a_route_table(a_route("tiny", f"http://127.0.0.1:{free_port()}"))
            await asyncio.to_thread(LastGood(left).save, gone)
            for table in left.iterdir():
                os.utime(table, (1, 1))
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: len(workers_of(gateway)) == 2 and not workers_of(gateway) & first)
        assert [await ask(gateway.url) for _ in range(10)] == [200] * 10


async def test_killed_worker_is_started_again_and_nothing_outlives_the_parent(tmp_path: Path, start_gateway: Start):
    async with Upstream() as engine:
        gateway = await started(tmp_path, start_gateway, engine)
        victim, other = workers_of(gateway)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in workers_of(gateway) and len(workers_of(gateway)) == 2)
        assert other in workers_of(gateway)
        assert [await ask(gateway.url) for _ in range(10)] == [200] * 10
        left = [ProcessIdentity.of(pid) for pid in workers_of(gateway)]
        await gateway.kill()
        await until(lambda: not any(child is not None and child.is_running() for child in left))


async def test_a_reload_takes_up_changed_options_and_drops_no_stream(tmp_path: Path, start_gateway: Start):
    options = tmp_path / "gateway.options"
    moved = f"http://127.0.0.1:{free_port()}"
    gate = asyncio.Event()
    async with Upstream() as engine:
        gateway = await started(tmp_path, start_gateway, engine, "--options-file", str(options))
        engine.script = streams(chat_chunks("a", "b"), gate=gate)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client,
            client.post(gateway.url + CHAT, json={"model": "tiny", "stream": True}) as response,
        ):
            await response.content.readany()
            engine.script = answers(chat_answer())
            options.write_text(f"--workers 1  # fewer\n--listen {moved.removeprefix('http://')}\n")
            first = workers_of(gateway)
            gateway.process.send_signal(signal.SIGHUP)
            await until(lambda: len(workers_of(gateway) - first) == 1 and len(workers_of(gateway) & first) == 1)
            assert await ask(moved) == 200
            gate.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        await until(lambda: len(workers_of(gateway)) == 1)
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(gateway.url)


@pytest.mark.parametrize(
    "wrong", ["--workers none", "--listen 192.0.2.1:4000", "--litellm-config /nowhere.yaml", "--state-dir /elsewhere"]
)
async def test_options_that_cannot_be_taken_up_change_nothing(tmp_path: Path, start_gateway: Start, wrong: str):
    options = tmp_path / "gateway.options"
    log = tmp_path / "gateway.log"
    async with Upstream() as engine:
        engine.script = answers(chat_answer())
        gateway = await started(tmp_path, start_gateway, engine, "--options-file", str(options))
        first = workers_of(gateway)
        options.write_text(wrong)
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: "options_not_taken" in log.read_text() or "worker_not_replaced" in log.read_text())
        await until(lambda: workers_of(gateway) == first)
        assert await ask(gateway.url) == 200
        options.unlink()
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: len(workers_of(gateway)) == 2 and not workers_of(gateway) & first)
        assert await ask(gateway.url) == 200


async def test_a_gateway_that_is_stopped_when_a_worker_has_died_starts_no_other(tmp_path: Path, start_gateway: Start):
    """Else the last stream is waited for, and then that other for ever: nobody has told it to end."""
    gate = asyncio.Event()
    async with Upstream(streams(chat_chunks("a", "b"), gate=gate)) as engine:
        gateway = await started(tmp_path, start_gateway, engine)
        first = workers_of(gateway)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client,
            client.post(gateway.url + CHAT, json={"model": "tiny", "stream": True}) as response,
        ):
            await response.content.readany()
            busy = next(pid for pid in first if has_client(pid, gateway.url))
            (idle,) = first - {busy}
            os.kill(idle, signal.SIGKILL)
            await until(lambda: "worker_lost" in (tmp_path / "gateway.log").read_text())
            gateway.process.terminate()
            # Long enough for the other to be started.
            for _ in range(20):
                await asyncio.sleep(AGAIN_SECONDS / 10)
                assert workers_of(gateway) <= first
            gate.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(20):
            await gateway.process.wait()


def has_client(pid: int, url: str) -> bool:
    port = int(url.rpartition(":")[2])
    connections = psutil.Process(pid).net_connections("tcp")
    return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in connections)
