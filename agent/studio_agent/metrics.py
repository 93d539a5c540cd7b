"""The agent's own Prometheus metrics."""

from prometheus_client import Counter, Gauge, Histogram

REPLICAS = Gauge("studio_agent_replicas", "Replicas on this host.", ["state"])
RESTARTS = Counter("studio_agent_engine_restarts_total", "Engines started again after a failure.")
FAILURES = Counter("studio_agent_engine_failures_total", "Engine failures by reason.", ["reason"])
STARTS = Histogram(
    "studio_agent_engine_start_seconds",
    "From the start of an engine until it answered a completion.",
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 3600),
)
CONNECTED = Gauge("studio_agent_session_connected", "1 while the control stream to the coordinator is open.")
LOOP_LAG = Gauge("studio_agent_loop_lag_seconds", "How late the supervising loop was at its last pass.")
EVENTS_DROPPED = Gauge("studio_agent_events_dropped", "Events dropped because the queue was full.")
LEDGER_WRITE_FAILED = Gauge("studio_agent_ledger_write_failed", "1 while the ledger cannot be written.")
