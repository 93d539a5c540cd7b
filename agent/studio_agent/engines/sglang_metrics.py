"""The names of SGLang's metrics (0.5.23). It has one series for each data-parallel rank."""

from studio_agent.engines.figures import MetricNames

SGLANG_METRICS = MetricNames(
    running="sglang:num_running_reqs",
    waiting="sglang:num_queue_reqs",
    kv_used_share="sglang:token_usage",
    prompt_tokens_total="sglang:prompt_tokens_total",
    generation_tokens_total="sglang:generation_tokens_total",
    prefix_hit_share="sglang:cache_hit_rate",
    ttft_histogram="sglang:time_to_first_token_seconds",
    itl_histogram="sglang:inter_token_latency_seconds",
)
