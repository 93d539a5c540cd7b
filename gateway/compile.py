"""Compile the gateway's data path to machine code with mypyc: ``python gateway/compile.py OUT``.

OUT gets the extension modules, laid out as they stand beside their sources in a wheel. Python prefers them where they are
present; without them the same sources run as they are, at about two thirds of the speed. A C compiler and Python's headers
are needed, nothing is fetched; what was compiled once is kept in the user's cache. Wheels take this in where
``STUDIO_COMPILE=1`` is set (``hatch_build.py``).
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "studio_gateway"
# What a request passes through, and nothing that has coroutines: while one of mypyc's waits, the exception that it is handling
# is seen by every other task.
MODULES = (
    "account",
    "affinity",
    "answers",
    "app",
    "call",
    "chunks",
    "client",
    "crowd",
    "deadlines",
    "exchange",
    "fallback",
    "forward",
    "headers",
    "http1",
    "in_force",
    "keys",
    "models",
    "openai_errors",
    "pick",
    "quota/allowance",
    "quota/claims",
    "quota/purse",
    "relay",
    "request",
    "retry_budget",
    "sse",
    "standing",
    "table",
    "tally",
    "trace",
    "traffic",
    "upstream",
    "usage",
)


def why_not() -> str:
    """What this machine lacks for compiling; empty where it lacks nothing."""
    if find_spec("mypyc") is None:
        return "mypyc is not installed"
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        return "there is no C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's headers are not installed"
    return ""


def compile_into(out: Path) -> None:
    """Compile all of ``MODULES``. Raises SystemExit where that fails."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        # Of a copy: mypyc looks for configuration, and writes, where it runs.
        shutil.copytree(
            ROOT / "gateway" / PACKAGE, work / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
        os.environ["MYPYPATH"] = os.pathsep.join(str(ROOT / folder) for folder in ("proto", "runtime"))
        os.chdir(work)
        from mypyc.build import mypycify  # noqa: PLC0415 - only whoever compiles has it
        from setuptools import setup  # noqa: PLC0415 - as above

        extensions = mypycify(
            [f"{PACKAGE}/{module}.py" for module in MODULES], opt_level="3", debug_level="0", group_name=PACKAGE
        )
        setup(
            name=PACKAGE,
            packages=[],
            ext_modules=extensions,
            script_args=["--quiet", "build_ext", "--build-lib", str(out), "--build-temp", str(work / "objects")],
        )


def kept() -> Path:
    """Where the outcome for these very sources, this Python and this mypyc is kept."""
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_platform()} {version('mypy')} {MODULES}".encode())
    for file in sorted((ROOT / "gateway" / PACKAGE).rglob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "vllm-studio" / "compiled" / digest.hexdigest()[:16]


def main() -> None:
    """Read the command line; compile, or take what was compiled before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="only say whether this machine can compile")
    given = parser.parse_args()
    if lack := why_not():
        sys.exit(f"The gateway cannot be compiled here: {lack}.")
    if given.check or given.out is None:
        return
    out = given.out.resolve()
    folder = kept()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        compile_into(unfinished)
        with contextlib.suppress(OSError):
            # Somebody else may have been quicker.
            unfinished.replace(folder)
    shutil.copytree(folder, out, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
