"""SGLang's start, line by line (0.5.23). Only the last line means that its own warm-up passed."""

from studio.v1.replica_pb2 import StartProgress as Start

from studio_agent.engines.phases import rule

_BAR = r"\s*(?P<percent>\d+)%"

SGLANG_PHASES = (
    rule(Start.PHASE_INIT, r"server_args=", "SGLang starts"),
    rule(Start.PHASE_INIT, r"Init torch distributed begin", "the workers find one another"),
    rule(
        Start.PHASE_DOWNLOAD,
        r"Fetching \d+ files:\s*\d+%\|.*?\| (?P<done>\d+)/(?P<total>\d+)",
        "file {done} of {total}",
    ),
    rule(Start.PHASE_DOWNLOAD, r"\.(?:safetensors|bin|gguf):" + _BAR, "{percent} % of a weights file"),
    rule(Start.PHASE_WEIGHTS, r"Load weight begin", "reading the weights"),
    rule(
        Start.PHASE_WEIGHTS,
        r"(?:Loading \S+ checkpoint shards|Multi-thread loading shards):\s*\d+%.*?\| (?P<done>\d+)/(?P<total>\d+)",
        "shard {done} of {total}",
    ),
    rule(
        Start.PHASE_WEIGHTS,
        r"Load weight end\. elapsed=(?P<took>[\d.]+) s.*mem usage=(?P<size>[\d.]+) GB",
        "weights read in {took} s, {size} GB",
    ),
    rule(Start.PHASE_PROFILE, r"Cache is allocated\..*?#tokens: (?P<tokens>\d+)", "KV cache of {tokens} tokens"),
    rule(Start.PHASE_PROFILE, r"Memory pool end\. avail mem=(?P<free>[\d.]+) GB", "{free} GB stay free"),
    rule(Start.PHASE_GRAPHS, r"Capture \S+(?: \S+)* CUDA graph begin", "capturing graphs"),
    rule(
        Start.PHASE_GRAPHS,
        r"Capturing batches \(.*?\):\s*\d+%\|.*?\| (?P<done>\d+)/(?P<total>\d+)",
        "graph {done} of {total}",
    ),
    rule(Start.PHASE_GRAPHS, r"Capture \S+(?: \S+)* CUDA graph end", "graphs captured"),
    rule(Start.PHASE_WARM_UP, r"max_total_num_tokens=(?P<tokens>\d+)", "room for {tokens} tokens"),
    rule(Start.PHASE_WARM_UP, r"Uvicorn running on", "the server listens and warms up"),
    rule(Start.PHASE_WARM_UP, r"The server is fired up and ready to roll", "the server answers"),
)
