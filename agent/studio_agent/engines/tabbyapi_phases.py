"""TabbyAPI's start, line by line. Its progress bar shows itself only on a terminal."""

from studio.v1.replica_pb2 import StartProgress as Start

from studio_agent.engines.phases import rule

TABBYAPI_PHASES = (
    rule(Start.PHASE_INIT, r"Configured backend: (?P<name>\S+)", "TabbyAPI starts"),
    rule(
        Start.PHASE_INIT,
        r"Using (?:default|configured) max_seq_len.*?: (?P<tokens>\d+) tokens",
        "context {tokens} tokens",
    ),
    rule(Start.PHASE_WEIGHTS, r"Loading model: ", "reading the weights"),
    rule(
        Start.PHASE_WEIGHTS, r"Loading with (?P<how>tensor parallel|autosplit|a manual GPU split)", "loading with {how}"
    ),
    rule(Start.PHASE_WEIGHTS, r"Loading \w+ modules.*?(?P<done>\d+)/(?P<total>\d+)", "module {done} of {total}"),
    rule(Start.PHASE_WEIGHTS, r"Model successfully loaded", "the weights are read"),
    rule(Start.PHASE_WARM_UP, r"Starting OAI API", "the server starts"),
    rule(Start.PHASE_WARM_UP, r"Uvicorn running on|Application startup complete", "the server answers"),
)
