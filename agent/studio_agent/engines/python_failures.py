"""Failures that engines written in Python share: host, hub, network between GPUs, the engine's own environment."""

from studio_agent.engines.failures import rule

PYTHON_FAILURES = (
    rule(
        "port_in_use",
        r"\[Errno 98\]|[Aa]ddress already in use",
        "The port was taken by another process.",
        "It is tried again on another port.",
        retryable=True,
    ),
    rule(
        "hf_auth",
        r"GatedRepoError|Cannot access gated repo|(?:401|403) Client Error",
        "The model hub refused access to the model.",
        "Accept the model's licence on the hub, and give the host a token (HF_TOKEN).",
    ),
    rule(
        "hf_missing",
        r"RepositoryNotFoundError|does not appear to have a file named"
        r"|is not a valid model identifier|Can't load the configuration|Invalid repository ID",
        "There is no such model, or it lacks its configuration.",
        "Check model.source: hf://OWNER/NAME, or path:// and a directory with config.json.",
    ),
    rule(
        "disk",
        r"No space left on device",
        "The disk is full.",
        "Free space where the agent keeps models and caches.",
    ),
    rule(
        "arch_unsupported",
        r"Model architectures (?P<names>.+?) are not supported for now|(?P<name>\S+) failed to be inspected",
        "This engine does not know the model's architecture.",
        "Try a newer engine version, or another engine.",
    ),
    rule(
        "trust_remote",
        r"(?:argument|option|setting) `?trust_remote_code=True",
        "The model brings its own code, which was not allowed to run.",
        "Read that code; if you trust it, set args.trust_remote_code: true.",
    ),
    rule(
        "bad_argument",
        r"error: (?P<said>(?:unrecognized arguments|argument |invalid choice|ambiguous option).*)",
        "The engine does not take its arguments: {said}",
        "Check extra_args against this engine version.",
    ),
    rule(
        "peer_lost",
        r"gloo/transport.*Connection (?:closed|reset) by peer|NCCL error.*ncclRemoteError|^rank (?P<rank>\d+) is gone\b",
        "Another part of the engine is gone, here or on another host, and none goes on without it.",
        "See why that part ended: studio describe names the hosts, studio logs has their words.",
        retryable=True,
    ),
    rule(
        "nccl",
        r"NCCL error|DistBackendError|Watchdog caught collective operation timeout",
        "The GPUs could not talk to each other.",
        "Check links and P2P between the GPUs, and the kernel log for XID errors.",
        retryable=True,
    ),
    rule(
        "gpu_fault",
        r"CUDA error: (?P<fault>an illegal memory access|unspecified launch failure|device-side assert|uncorrectable ECC)"
        r"|(?P<other>uncorrectable ECC error|device-side assert triggered)",
        "The GPU reported a fault.",
        "Look for XID errors in the kernel log; drain the host if they return.",
        retryable=True,
    ),
    rule(
        "environment_broken",
        r"^(?:ModuleNotFoundError|ImportError): (?P<said>.+)",
        "The engine's environment is broken: {said}",
        "Remove the environment under the engines folder; it is installed anew.",
    ),
)
