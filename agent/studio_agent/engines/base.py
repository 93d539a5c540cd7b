"""What the agent asks of an engine driver.

A driver knows one engine and touches nothing: it turns a recipe into a command, a log line into progress, a log's end into a
named failure, and a page of metrics into figures. Everything that acts (processes, sockets, files) lives elsewhere.

What only some engines can do is a protocol of its own (`CanMeasure`, `CanSleep`, `CanLoadLora`, `CanSpan`): ask with
`isinstance`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, Protocol, runtime_checkable

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.assignment_pb2 import Group
from studio.v1.recipe_pb2 import LoraAdapter, Recipe
from studio.v1.replica_pb2 import Failure, MeasuredMemory, ReplicaFigures, StartProgress

from studio_agent.engines.flag_list import FlagList
from studio_agent.engines.model_facts import ModelFacts, Task


@dataclass(frozen=True)
class LaunchContext:
    """What a driver needs to know beside the recipe; decided by the agent."""

    # How to run the engine's program, as in ("/…/bin/vllm",).
    program: tuple[str, ...]
    # Where it is to listen.
    host: str
    port: int
    # A local directory or file, or a hub id; "" for an engine that needs none.
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
    # Memory of each GPU, in bytes, as it is and as it is free right before the start; 0: unknown.
    gpu_total_bytes: int = 0
    gpu_free_bytes: int = 0
    gpu_vendor: Literal["nvidia", "amd"] = "nvidia"
    # What the installed program takes; None: it could not be asked, so flags go unchecked.
    known_flags: FlagList | None = None
    # What the model's own files say; None: they are not on this host yet.
    model: ModelFacts | None = None
    # Which part of a replica that spans several hosts it is; None: it is the whole of it.
    group: Group | None = None

    @property
    def files_dir(self) -> PurePath:
        """Where the files of a launch spec belong: a folder of this replica's own."""
        return self.cache_dir / "launch" / self.process_label


@dataclass(frozen=True)
class LaunchSpec:
    """A command: its words, its whole environment, which starts from empty, and the files it reads."""

    argv: tuple[str, ...]
    env: dict[str, str]
    # To be written, readable by the engine's user alone, before the start. Absolute paths below the context's `files_dir`.
    files: Mapping[PurePath, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class DrainFacts:
    """What an engine does with running requests when it gets SIGTERM."""

    finishes_requests: bool
    # How long it lets them run; None: without any limit, so whoever stops it needs a deadline of his own.
    limit_seconds: float | None
    # Whether its metrics say how many requests run. Where not, waiting for idleness is waiting for the deadline.
    tells_running: bool


@dataclass(frozen=True)
class HttpRequest:
    """A request to an engine, as data. ``body`` is JSON; None: there is none."""

    method: Literal["GET", "POST"]
    path: str
    body: dict[str, Any] | None = None


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

    @property
    def drain(self) -> DrainFacts:
        """What SIGTERM means to running requests."""

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """The command that serves ``recipe``. Raises RecipeError."""

    def progress(self, line: str) -> StartProgress | None:
        """The phase that a line of the start-up log announces; ``phase_since`` is left to the caller."""

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """Name why an engine ended. ``lines`` is its log, oldest first; a negative code is a signal, None is unknown."""

    def canary(self, model_name: str, task: Task = Task.GENERATE) -> HttpRequest:
        """The smallest request that proves that a model with this task serves."""

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:
        """The common figures out of the engine's Prometheus page; what is missing there stays absent."""


@runtime_checkable
class CanMeasure(Protocol):
    """An engine that says in its log what its start took."""

    def measured(self, lines: Sequence[str]) -> MeasuredMemory:
        """Out of the lines of one start; what they do not say stays absent."""


@runtime_checkable
class CanSleep(Protocol):
    """An engine that can give back its GPU memory and take it again, in the same process."""

    @property
    def sleep_levels(self) -> int:
        """2 where it can also drop its weights and find them again by itself, else 1."""

    def sleep(self, *, keep_weights: bool) -> Sequence[HttpRequest]:
        """Requests, in order, that make an idle engine sleep; with ``keep_weights`` they wait in the host's memory."""

    def wake(self, model_path: str, *, kept_weights: bool) -> Sequence[HttpRequest]:
        """Requests, in order, that wake it; without kept weights they are read again from ``model_path``."""


@runtime_checkable
class CanLoadLora(Protocol):
    """An engine that takes and drops LoRA adapters while it serves, if its recipe says so from the start."""

    def takes_lora(self, recipe: Recipe) -> bool:
        """Whether an engine that was started from ``recipe`` does."""

    def load_lora(self, adapter: LoraAdapter, path: str) -> HttpRequest:
        """Load ``adapter`` from the directory or hub id ``path``."""

    def unload_lora(self, name: str) -> HttpRequest:
        """Drop the adapter of that name."""


@dataclass(frozen=True)
class JoinSign:
    """How a member of a group, which answers no requests, shows that it has found the others. One of the two is set."""

    # A regular expression that a line of its log then matches.
    line: str = ""
    # An HTTP path that it then answers with 200.
    path: str = ""


@runtime_checkable
class CanSpan(Protocol):
    """An engine that runs as several processes on several hosts, of which rank 0 answers requests."""

    @property
    def joined(self) -> JoinSign:
        """How the other ranks show that they have joined."""
