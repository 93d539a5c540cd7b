"""What the agent knows of one replica: what was asked for, the engine that serves it, and how that went."""

from dataclasses import dataclass, field

from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.replica_pb2 import Failure, MeasuredMemory, Replica, StartProgress

State = Replica.State


@dataclass(frozen=True)
class Engine:
    """One engine: a tree of processes that this agent started, or is about to start.

    It is written down with ``pid`` 0 before the start and again with its identity after it; the token, which every process of
    the tree carries in its environment, finds an engine again that was started but not written down.
    """

    # REPLICA.GENERATION.RANDOM
    token: str
    port: int
    boot_id: str
    log_path: str
    # Where this engine's part of the log file begins.
    log_offset: int = 0
    argv_digest: str = ""
    # The leader of its session; 0: intended, not known to run.
    pid: int = 0
    # With pid and boot id it cannot be taken for another process.
    start_ticks: int = 0
    # Its cgroup-v2 folder; "" where the kernel gives none.
    cgroup: str = ""
    # Seconds since the epoch.
    started_at: float = 0.0
    # By GPU: bytes in use before its start that no process held.
    gpu_unowned_bytes: dict[str, int] = field(default_factory=dict)
    # The LoRA adapters that it has now, and the directory of each; its recipe's, and those it was given since.
    adapters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplicaRecord:
    """One replica on this host. Times are seconds since the epoch, so that they mean the same to the next agent."""

    assigned: AssignedReplica
    state: "State.ValueType"
    reason: str
    since: float
    # Set as long as a process of it may exist.
    engine: Engine | None = None
    # When it was tried again, as far as the budget's window reaches back.
    restarts: tuple[float, ...] = ()
    restart_count: int = 0
    # Tries in a row that found their port taken, and those ports.
    port_conflicts: int = 0
    taken_ports: tuple[int, ...] = ()
    failure: Failure | None = None
    retry_at: float | None = None
    # The next try costs no budget.
    retry_is_free: bool = False
    gave_up: bool = False
    progress: StartProgress | None = None
    # What the start of the engine took of each GPU, as its log says; read again by the next agent.
    measured: MeasuredMemory | None = None
    # Why it may be hung; "" while nothing speaks for that.
    suspicion: str = ""
    # In SLEEPING: the engine has given its memory back. Before that, requests in flight finish.
    asleep: bool = False
    # How deep it was told to sleep; 0 while it was not told yet. Kept while it wakes, for that differs.
    sleep_level: int = 0
    # It was found running and what it holds is not known: no start until it is gone.
    holds_unknown: bool = False

    @property
    def replica_id(self) -> str:
        """The deployment's name and a number."""
        return self.assigned.replica_id

    @property
    def follows(self) -> bool:
        """Whether its engine is a part of a replica over several hosts that answers no requests itself."""
        return self.assigned.group.rank > 0

    @property
    def generation(self) -> int:
        """Which start of the replica this is, as the coordinator counts."""
        return self.assigned.generation

    def is_for(self, assigned: AssignedReplica) -> bool:
        """Whether its engine is the one that is assigned.

        After a database was restored from a backup, a name and a generation may be given a second time, to other GPUs or
        another revision: that is another engine.
        """
        if self.generation != assigned.generation:
            return False
        mine = self.assigned
        of_other_revision = (mine.recipe_name, mine.recipe_revision) != (assigned.recipe_name, assigned.recipe_revision)
        on_other_gpus = sorted(mine.gpu_uuids) != sorted(assigned.gpu_uuids)
        return self.holds_unknown or not (of_other_revision or on_other_gpus)
