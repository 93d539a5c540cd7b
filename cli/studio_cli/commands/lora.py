"""``studio lora``: adapters of engines that serve."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import ListReplicasRequest
from studio.v1.agent_service_pb2 import Command, LoadLora, UnloadLora
from studio.v1.recipe_pb2 import LoraAdapter
from studio_runtime.errors import NotFoundError

from studio_cli.command import command, noun
from studio_cli.commands.models import source_of
from studio_cli.completion import completed_by, replica_names
from studio_cli.coordinator import Coordinator
from studio_cli.on_host import run_on_host

ReplicaArgument = Annotated[str, typer.Argument(metavar="REPLICA", autocompletion=completed_by(replica_names))]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the engine answers to.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    adapters = noun(app, "lora", "LoRA adapters of engines that serve.")
    command(
        adapters,
        load_adapter,
        "studio lora load chat-1 sql lab/sql-adapter",
        "studio lora load chat-1 sql path:///adapters/sql",
        name="load",
    )
    command(adapters, unload_adapter, "studio lora unload chat-1 sql", name="unload")


async def load_adapter(
    coordinator: Coordinator,
    replica: ReplicaArgument,
    name: NameArgument,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="OWNER/NAME on the hub, or path:// and a directory on its host.")
    ],
    revision: Annotated[str, typer.Option(help="A branch, a tag or a commit.")] = "",
) -> None:
    """Give the engine of a replica one more adapter, without a restart.

    It has it until it ends: for one that stays, and for every replica, write it in the recipe. The recipe must take adapters
    already. The adapter is fetched first where it is not on the host.
    """
    host = await _host_of(coordinator, replica)
    adapter = LoraAdapter(name=name, source=source_of(source), revision=revision)
    wanted = LoadLora(replica_id=replica, adapter=adapter)
    await run_on_host(coordinator, host, f"load {name}", Command(load_lora=wanted))


async def unload_adapter(coordinator: Coordinator, replica: ReplicaArgument, name: NameArgument) -> None:
    """Have the engine of a replica drop an adapter."""
    host = await _host_of(coordinator, replica)
    wanted = UnloadLora(replica_id=replica, name=name)
    await run_on_host(coordinator, host, f"unload {name}", Command(unload_lora=wanted))


async def _host_of(coordinator: Coordinator, replica: str) -> str:
    """The name of the host that ``replica`` is on. Raises NotFoundError."""
    answer = await coordinator.call(coordinator.admin.ListReplicas, ListReplicasRequest(), "find the replica")
    found = next((one for one in answer.replicas if one.id == replica), None)
    if found is None:
        known = ", ".join(sorted(one.id for one in answer.replicas)) or "none"
        raise NotFoundError(f"there is no replica {replica}", f"Replicas: {known}.")
    if not found.host_id:
        raise NotFoundError(f"{replica} is on no host yet", "See studio ps.")
    return found.host_id
