"""Wheels with the gateway's data path compiled, where ``STUDIO_COMPILE=1`` asks for it; without it a wheel is pure Python."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledGateway(BuildHookInterface[Any]):
    """Adds the extension modules beside their sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the wheel is an editable one: its sources may change."""
        if version == "editable" or os.environ.get("STUDIO_COMPILE") != "1":
            return
        self._folder = tempfile.TemporaryDirectory()
        out = Path(self._folder.name)
        subprocess.run([sys.executable, str(Path(self.root) / "gateway" / "compile.py"), str(out)], check=True)
        built = {str(file): str(file.relative_to(out)) for file in out.rglob("*.so")}
        build_data["force_include"].update(built)
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """What was compiled is in the wheel."""
        del version, build_data, artifact_path
        if hasattr(self, "_folder"):
            self._folder.cleanup()
