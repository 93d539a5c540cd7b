"""llama.cpp's start, line by line (b11434)."""

from studio.v1.replica_pb2 import StartProgress as Start

from studio_agent.engines.phases import rule

LLAMACPP_PHASES = (
    rule(Start.PHASE_INIT, r"\binitializing \.\.\.", "llama.cpp starts"),
    rule(Start.PHASE_DOWNLOAD, r"Downloading .*?(?P<percent>\d+)\s?%", "{percent} % downloaded"),
    rule(Start.PHASE_WEIGHTS, r"loading model '(?P<name>[^']*)'", "reading {name}"),
    rule(Start.PHASE_WEIGHTS, r"loading model tensors, this can take a while", "reading the weights"),
    rule(
        Start.PHASE_WEIGHTS,
        r"offloaded (?P<done>\d+)/(?P<total>\d+) layers to GPU",
        "{done} of {total} layers on the GPU",
    ),
    rule(Start.PHASE_PROFILE, r"KV buffer size = *(?P<size>[\d.]+) MiB", "{size} MiB for the KV cache"),
    rule(Start.PHASE_WARM_UP, r"warming up the model", "warming up"),
    rule(Start.PHASE_WARM_UP, r"initializing, n_slots = (?P<slots>\d+)", "{slots} slots"),
    rule(Start.PHASE_WARM_UP, r"\bmodel loaded\b", "the model is loaded"),
    rule(Start.PHASE_WARM_UP, r"\blistening on (?P<address>\S+)", "the server answers"),
)
