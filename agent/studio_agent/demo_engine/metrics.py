"""The demo engine's metrics, under vLLM's names and labels."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LABELS = ("model_name", "engine")
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
INTER_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
SLEEP_STATES = {"awake": None, "weights_offloaded": 1, "discard_all": 2}


class EngineMetrics:
    """One series for each metric: the first model name, engine 0."""

    def __init__(self, model_name: str) -> None:
        self._registry = CollectorRegistry()
        labels = (model_name, "0")

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, LABELS, registry=self._registry).labels(*labels)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"vllm:{name}", text, LABELS, registry=self._registry).labels(*labels)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            whole = Histogram(f"vllm:{name}", text, LABELS, registry=self._registry, buckets=buckets)
            return whole.labels(*labels)

        self.running = gauge("num_requests_running", "Requests that are being answered.")
        self.waiting = gauge("num_requests_waiting", "Requests that wait for a slot.")
        self.kv_cache_usage = gauge("kv_cache_usage_perc", "Share of the simulated KV cache in use, 0 to 1.")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = counter("generation_tokens", "Tokens of answers.")
        self.prefix_queries = counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self.prefix_hits = counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self.first_token = histogram("time_to_first_token_seconds", "From arrival to first token.", FIRST_TOKEN_BUCKETS)
        self.inter_token = histogram("inter_token_latency_seconds", "Between two tokens.", INTER_TOKEN_BUCKETS)
        self._success = Counter(
            "vllm:request_success", "Finished requests.", (*LABELS, "finished_reason"), registry=self._registry
        )
        self._sleep = Gauge(
            "vllm:engine_sleep_state", "1 for the state it is in.", (*LABELS, "sleep_state"), registry=self._registry
        )
        self._labels = labels
        self.set_sleep_level(None)

    def finished(self, reason: str) -> None:
        """Count a request that ended with ``reason``."""
        self._success.labels(*self._labels, reason).inc()

    def set_sleep_level(self, level: int | None) -> None:
        """Say how deep it sleeps; None is awake."""
        for state, state_level in SLEEP_STATES.items():
            self._sleep.labels(*self._labels, state).set(float(state_level == level))

    def page(self) -> bytes:
        """The whole page in Prometheus' text format."""
        return generate_latest(self._registry)
