"""Environments with a LiteLLM of one version each, as users have them: made on first use and kept in the cache.

Without the package that is under a proprietary licence, and with what the proxy imports but does not name. Our own packages
are found where they are; what they import is installed beside LiteLLM.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vllm-studio" / "litellm"
ROOT = Path(__file__).parents[2]
# Before and after the router was written anew.
PINS = ("1.106.2", "1.109.1")
PROPRIETARY = "litellm-enterprise"
# Its exact pin is not to be had for every release; only a proxy with a database uses it.
ANY_VERSION = "litellm-proxy-extras"
# The proxy imports prisma without naming it.
BESIDE = ("prisma", "grpcio", "protobuf", "structlog", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
BESIDE += ("prometheus-client", "psutil", "cryptography", "hypothesis", "pytest", "pytest-asyncio")


def litellm_environment(version: str) -> Path:
    """The folder of programs of an environment with LiteLLM ``version`` and its proxy. Raises CalledProcessError."""
    folder = CACHE / version
    programs = folder / "bin"
    done = folder / ".done"
    if not done.exists() or done.read_text() != str(BESIDE):
        _run(sys.executable, "-m", "venv", str(folder))
        install = (str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*install, f"litellm=={version}")
        _run(*install, *_proxy_requirements(programs / "python"), *BESIDE)
        done.write_text(str(BESIDE))
    return programs


def source_path() -> str:
    """``PYTHONPATH`` with our packages."""
    return os.pathsep.join(str(ROOT / part) for part in ("proto", "runtime", "gateway"))


def _proxy_requirements(python: Path) -> list[str]:
    """What LiteLLM's extra ``proxy`` asks for, but for the proprietary package."""
    script = "import importlib.metadata as m; print('\\n'.join(m.requires('litellm')))"
    wanted = []
    for line in _run(str(python), "-c", script).splitlines():
        requirement = Requirement(line)
        marker = requirement.marker
        if "extra" not in line or marker is None or not marker.evaluate({"extra": "proxy"}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name != PROPRIETARY:
            wanted.append(name if name == ANY_VERSION else f"{requirement.name}{requirement.specifier}")
    return wanted


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
