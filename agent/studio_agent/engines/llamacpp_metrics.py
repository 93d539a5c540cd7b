"""The names of llama.cpp's metrics (b11434). It tells neither its cache's use nor latencies."""

from studio_agent.engines.figures import MetricNames

LLAMACPP_METRICS = MetricNames(
    running="llamacpp:requests_processing",
    waiting="llamacpp:requests_deferred",
    prompt_tokens_total="llamacpp:prompt_tokens_total",
    generation_tokens_total="llamacpp:tokens_predicted_total",
)
