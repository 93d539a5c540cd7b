"""vLLM's start, line by line, in the order in which it happens (0.32 and 0.33)."""

from studio.v1.replica_pb2 import StartProgress as Start

from studio_agent.engines.phases import rule

_BAR = r"\s*(?P<percent>\d+)%\|"

VLLM_PHASES = (
    rule(Start.PHASE_INIT, r"(?:vLLM API server|█) +version (?P<version>\d\S*)", "vLLM {version} starts"),
    rule(Start.PHASE_INIT, r"Resolved architecture: (?P<name>\S+)", "architecture {name}"),
    rule(Start.PHASE_INIT, r"Initializing a V1 LLM engine", "the engine core starts"),
    rule(
        Start.PHASE_DOWNLOAD,
        r"Fetching \d+ files:\s*\d+%\|.*?\| (?P<done>\d+)/(?P<total>\d+)",
        "file {done} of {total}",
    ),
    rule(Start.PHASE_DOWNLOAD, r"\.(?:safetensors|bin|gguf):" + _BAR, "{percent} % of a weights file"),
    rule(Start.PHASE_DOWNLOAD, r"Time spent downloading weights for \S+: (?P<took>[\d.]+)", "downloaded in {took} s"),
    rule(
        Start.PHASE_WEIGHTS,
        r"Loading \S+ checkpoint shards:\s*(?P<percent>\d+)% Completed \| (?P<done>\d+)/(?P<total>\d+)",
        "shard {done} of {total}",
    ),
    rule(Start.PHASE_WEIGHTS, r"Starting to load model", "reading the weights"),
    rule(Start.PHASE_WEIGHTS, r"Loading weights took (?P<took>[\d.]+) seconds", "weights read in {took} s"),
    rule(Start.PHASE_WEIGHTS, r"Model loading took (?P<size>[\d.]+) GiB", "the weights take {size} GiB"),
    rule(Start.PHASE_COMPILE, r"Dynamo bytecode transform time", "tracing the model"),
    rule(Start.PHASE_COMPILE, r"Compiling a graph for compile range", "compiling the model"),
    rule(Start.PHASE_COMPILE, r"Directly load the compiled graph", "compiled model found in the cache"),
    rule(Start.PHASE_COMPILE, r"torch\.compile (?:takes|took) (?P<took>[\d.]+) s", "compiled in {took} s"),
    rule(Start.PHASE_PROFILE, r"Profiling CUDA graph memory", "measuring memory"),
    rule(Start.PHASE_PROFILE, r"Available KV cache memory: (?P<size>[\d.]+) GiB", "{size} GiB for the KV cache"),
    rule(Start.PHASE_PROFILE, r"Explicitly set \((?P<size>[\d.]+)/\S+ GiB for KV cache", "{size} GiB for the KV cache"),
    rule(Start.PHASE_PROFILE, r"KV cache size: (?P<tokens>[\d,]+) tokens", "KV cache of {tokens} tokens"),
    rule(
        Start.PHASE_GRAPHS,
        r"Capturing CUDA graphs.*?:" + _BAR + r".*?\| (?P<done>\d+)/(?P<total>\d+)",
        "graph {done} of {total}",
    ),
    rule(Start.PHASE_GRAPHS, r"Graph capturing finished in (?P<took>\d+)", "graphs captured in {took} s"),
    rule(Start.PHASE_WARM_UP, r"Warming up model", "warming up"),
    rule(Start.PHASE_WARM_UP, r"init engine .* took (?P<took>[\d.]+) s", "engine initialised in {took} s"),
    rule(Start.PHASE_WARM_UP, r"Starting (?:vLLM|demo engine) server on", "the server starts"),
    rule(Start.PHASE_WARM_UP, r"Application startup complete", "the server answers"),
)
