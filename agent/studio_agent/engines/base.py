"""What the agent asks of an engine driver.

A driver knows one engine and touches nothing: it turns a recipe into a command, a log line into progress, a log's end into a
named failure, and a page of metrics into figures. Everything that acts (processes, sockets, files) lives elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Failure, ReplicaFigures, StartProgress


@dataclass(frozen=True)
class LaunchContext:
    """What a driver needs to know beside the recipe; decided by the agent."""

    # How to run the engine's program, as in ("/…/bin/vllm",).
    program: tuple[str, ...]
    # Where it is to listen.
    host: str
    port: int
    # A local directory, or a hub id; "" for an engine that needs none.
    model_path: str
    # The names it answers to: the public model name, then aliases.
    model_names: tuple[str, ...]
    # Empty on a host without GPUs.
    gpu_uuids: tuple[str, ...]
    # Bytes it may use on each GPU; 0: as the recipe says.
    gpu_memory_bytes: int
    # Where compile caches and model files of this host are kept.
    cache_dir: Path
    # The replica's id: what its processes are called where the engine can say so.
    process_label: str
    # Memory of each GPU, in bytes; 0: unknown.
    gpu_total_bytes: int = 0


@dataclass(frozen=True)
class LaunchSpec:
    """A command: its words, and its whole environment, which starts from empty."""

    argv: tuple[str, ...]
    env: dict[str, str]


class Driver(Protocol):
    """One engine. Every method is pure."""

    @property
    def name(self) -> str:
        """What recipes call the engine."""

    @property
    def default_version(self) -> str:
        """The version this release is tested with; "" where nothing is installed."""

    @property
    def ready_path(self) -> str:
        """The HTTP path that answers 200 before a completion is worth trying."""

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """The command that serves ``recipe``. Raises RecipeError."""

    def progress(self, line: str) -> StartProgress | None:
        """The phase that a line of the start-up log announces; ``phase_since`` is left to the caller."""

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """Name why an engine ended. ``lines`` is its log, oldest first; a negative code is a signal, None is unknown."""

    def canary(self, model_name: str) -> tuple[str, dict[str, Any]]:
        """Path and JSON body of a completion of one token."""

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:
        """The common figures out of the engine's Prometheus page; what is missing there stays absent."""
