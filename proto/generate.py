"""Generate the contract's Python code beside the ``.proto`` files; with ``--check`` only say whether it is up to date."""

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
GENERATED = ("*_pb2.py", "*_pb2_grpc.py", "*_pb2.pyi", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Run protoc with the Python, gRPC and typing plug-ins into ``out``."""
    sources = sorted(str(path.relative_to(HERE)) for path in HERE.glob("studio/v1/*.proto"))
    include = [f"-I{HERE}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
    tools = Path(sys.executable).parent
    messages = [f"--plugin={tools / 'protoc-gen-mypy'}", f"--python_out={out}", f"--mypy_out=quiet:{out}"]
    services = [
        f"--plugin={tools / 'protoc-gen-mypy_grpc'}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
    ]
    service_sources = [source for source in sources if source.endswith("_service.proto")]
    for plugins, files in ((messages, sources), (services, service_sources)):
        if protoc.main(["protoc", *include, *plugins, *files]) != 0:
            sys.exit("protoc failed; see above")


def generated_files(root: Path) -> set[Path]:
    """Paths, relative to ``root``, of the generated modules below it."""
    return {path.relative_to(root) for pattern in GENERATED for path in (root / "studio").rglob(pattern)}


def check() -> None:
    """Exit with 1 when a committed module differs from what would be generated now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = generated_files(fresh) | generated_files(HERE)
        stale = [
            str(name)
            for name in sorted(names)
            if not (fresh / name).exists()
            or not (HERE / name).exists()
            or not filecmp.cmp(fresh / name, HERE / name, shallow=False)
        ]
    if stale:
        sys.exit("generated code is out of date, run `make proto`: " + ", ".join(stale))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is out of date")
    if parser.parse_args().check:
        check()
        return
    for name in generated_files(HERE):
        (HERE / name).unlink()
    generate(HERE)


if __name__ == "__main__":
    main()
