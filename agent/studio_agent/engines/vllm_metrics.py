"""The names of vLLM's metrics (0.32 and 0.33)."""

from studio_agent.engines.figures import MetricNames

VLLM_METRICS = MetricNames(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    kv_used_share="vllm:kv_cache_usage_perc",
    prompt_tokens_total="vllm:prompt_tokens_total",
    generation_tokens_total="vllm:generation_tokens_total",
    prefix_queries_total="vllm:prefix_cache_queries_total",
    prefix_hits_total="vllm:prefix_cache_hits_total",
    ttft_histogram="vllm:time_to_first_token_seconds",
    itl_histogram="vllm:inter_token_latency_seconds",
)
