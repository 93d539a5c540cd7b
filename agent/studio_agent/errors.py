"""What goes wrong in the agent itself; what goes wrong with an engine is a ``Failure``."""

from studio.v1.replica_pb2 import Failure
from studio_runtime.errors import StudioError


class EngineFailedError(StudioError):
    """An engine could not be prepared, started or made ready, or ended by itself."""

    reason = "engine_failed"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, failure.hint)
        self.failure = failure


class AdapterRefusedError(StudioError):
    """An engine would not load or drop an adapter."""

    reason = "adapter_refused"


class NoFreePortError(StudioError):
    """Every port of the range is taken."""

    reason = "no_free_port"
    retryable = True


class LedgerUnreadableError(StudioError):
    """The ledger is damaged."""

    reason = "ledger_unreadable"


class StateFolderInUseError(StudioError):
    """Another agent works in the state folder."""

    reason = "state_folder_in_use"


class MetricsAddressError(StudioError):
    """The Prometheus endpoint cannot listen where it was told to."""

    reason = "metrics_address"


class SessionLostError(StudioError):
    """The control stream to the coordinator ended; engines are not touched by that."""

    reason = "session_lost"
    retryable = True
