"""The demo engine: a small OpenAI-compatible server that stands in for a model, and says so.

It lets the whole system run, and be tested, on a machine without a GPU and without a download: `/v1/models`,
`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/tokenize`, `/health`, `/version`, `/metrics` in vLLM's names,
`/sleep`, `/wake_up`, `/is_sleeping`, and with `--enable-lora` vLLM's `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`. It
logs its start in vLLM's words and opens its port only when it is loaded, as vLLM does.

It is no model. Its text is a fixed set of sentences that say so, chosen by the prompt; a token is a word; its
`system_fingerprint` and `owned_by` name it. An answer is as long as `max_tokens` asks, or one round of its sentences.

Every setting of `DemoArgs` is a flag here, so that tests can have it misbehave: see `settings`.

    python -m studio_agent.demo_engine --model demo --host 127.0.0.1 --port 8000 --tokens-per-second 20
"""
