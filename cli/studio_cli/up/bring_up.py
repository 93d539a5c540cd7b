"""The order of it all: what ``studio up`` does from the first check to the last process that ends."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress

from studio.v1.admin_service_pb2 import GetStatusRequest, ListHostsRequest
from studio.v1.host_pb2 import Host
from studio_runtime.errors import StudioError
from studio_runtime.settings import Home

from studio_cli import wording
from studio_cli.coordinator import Coordinator, connect
from studio_cli.credentials import local_bearer
from studio_cli.report import Report
from studio_cli.up.keeper import Keeper
from studio_cli.up.leftovers import end_leftovers
from studio_cli.up.local_key import local_key
from studio_cli.up.lock import locked
from studio_cli.up.options import UpOptions
from studio_cli.up.preflight import check_options, check_ports
from studio_cli.up.roles import Role
from studio_cli.up.serve_first import serve_first
from studio_cli.up.served import until_served
from studio_cli.up.shutdown import stop_all
from studio_cli.up.supervisor import Supervisor
from studio_cli.up.up_file import Outcome
from studio_cli.up.welcome import welcome

HOST_SECONDS = 30.0
SERVED_SECONDS = 15.0
POLL_SECONDS = 0.1


async def up(home: Home, options: UpOptions, roles: Sequence[Role], report: Report) -> None:
    """Run the system until cancelled; whatever happens, nothing that was started is left behind. Raises StudioError."""
    # A closed terminal is a wish to stop like Ctrl-C, not a reason to leave engines behind.
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, task.cancel)
    check_options(options)
    with locked(home):
        await end_leftovers(home, report)
        home.up_file.unlink(missing_ok=True)
        check_ports({"--gateway-port": options.gateway, "--coordinator-port": options.coordinator})
        supervisor = Supervisor(home, options, roles, report)
        try:
            async with asyncio.TaskGroup() as group:
                await come_up(supervisor, group, home, options, report)
                await supervisor.keep_written()
        except BaseExceptionGroup as failures:
            raise first_of(failures) from failures
        finally:
            supervisor.withdraw()
            await stop_all(supervisor.keepers, report)
            supervisor.roster.clear()


async def come_up(
    supervisor: Supervisor, group: asyncio.TaskGroup, home: Home, options: UpOptions, report: Report
) -> None:
    """Start one role after the other, then have the first recipe served, then tell the world."""
    gpu_count = 0
    for keeper in supervisor.keepers:
        with report.step(keeper.role.name) as step:
            await supervisor.start(keeper, group)
            if keeper.role.name == "agent":
                async with connect([options.coordinator], bearer=local_bearer(home)) as coordinator:
                    host = await until_connected(coordinator, keeper)
                gpu_count = len(host.gpus)
                step.done(describe_host(host))
            else:
                step.done(await describe_role(keeper, home, options))
    async with connect([options.coordinator], bearer=local_bearer(home)) as coordinator:
        api_key = await local_key(coordinator, home.root / "api-key")
        serving, problem = await serve_first(coordinator, options, gpu_count, report)
    if not await until_served(options.gateway, api_key, serving, SERVED_SECONDS):
        problem = problem or f"the gateway does not list {', '.join(serving) or 'its models'}"
        report.warning(f"{problem}; its log is {home.logs / 'gateway.log'}")
    await supervisor.publish(Outcome(api_key, serving, problem))
    if not options.detached:
        welcome(home, f"http://{options.gateway}", api_key, serving, report, "Ctrl-C stops everything")


async def until_connected(coordinator: Coordinator, keeper: Keeper) -> Host:
    """The host of the agent that ``keeper`` runs, once the coordinator has it. Raises StudioError."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HOST_SECONDS):
            while True:
                answer = await coordinator.call(coordinator.admin.ListHosts, ListHostsRequest(), "list the hosts")
                connected = [host for host in answer.hosts if host.state == Host.STATE_CONNECTED]
                if connected:
                    return connected[0]
                await asyncio.sleep(POLL_SECONDS)
    raise StudioError(
        f"the agent did not reach the coordinator within {HOST_SECONDS:.0f} s", f"Its log is {keeper.role.log}"
    )


def describe_host(host: Host) -> str:
    """``host lab-1: 0 GPUs, 16 cores, 62 GiB``."""
    gpus = wording.count_of(len(host.gpus), "GPU")
    cores = wording.count_of(host.facts.cpu_count, "core")
    return f"host {host.name}: {gpus}, {cores}, {wording.size(host.facts.memory_bytes)}"


async def describe_role(keeper: Keeper, home: Home, options: UpOptions) -> str:
    """What a role that is ready says about itself."""
    match keeper.role.name:
        case "postgres":
            version = home.postgres / "PG_VERSION"
            major = f" {version.read_text(encoding='ascii').strip()}" if version.exists() else ""
            return f"embedded{major}, {home.postgres}"
        case "coordinator":
            async with connect([options.coordinator], bearer=local_bearer(home)) as coordinator:
                status = await coordinator.call(coordinator.admin.GetStatus, GetStatusRequest(), "ask for the status")
            return f"{options.coordinator}, schema {status.schema_revision}"
        case "gateway":
            return f"http://{options.gateway}"
        case _:
            return "ready"


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group: what followed from it is of no interest."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
