"""How much GPU memory a model takes, before anything runs. Pure.

=============== =====================================================================================================
config_*        a config.json as it is written: nested sections, defaults that files leave out
architecture    what each decoder layer keeps per request, from that file; what is missing is bounded and listed
tensors         exact bytes by place, from safetensors or GGUF headers; `parameters`, `quantization`: the same by counting
model           `model_facts(config, tensors, weight_bytes)`: the one way to make `ModelFacts`
facts_document  `ModelFacts` as plain values and back
engine_rules    what changed between engine versions, as a table
settings        the question: `Settings` as an operator writes them, `Question` with all defaults filled in
weights         bytes of one rank; `kv_pages`, `kv_pool`: blocks, tokens, concurrency; `activation`, `overhead`: the rest
estimate        `estimate_vllm`; `sglang`: `estimate_sglang`; both answer with one `Estimate`
fitting         the smallest split that fits, and the flags with which several engines share one GPU
calibration     what earlier starts measured replaces what is predicted
=============== =====================================================================================================

Every number is a `Part`: bytes, its source (given, measured, formula, fitted, bound) and its error. Formulas and fits are
explained in docs/memory.md.
"""
