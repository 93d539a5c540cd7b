"""The Containerfile's own steps, carried out in a file system with Python instead of by a builder, which needs a registry."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fleet import releases, rootfs
from fleet.layers import a_copy_of
from fleet.studio_host import CHECKOUT

FILE = CHECKOUT / "deploy/containers/Containerfile"
# The base image has it under both names.
PYTHON = "usr/bin/python"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """What one FROM and the lines below it say."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        return next(rest for said, rest in reversed(self.steps) if said == word)


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    joined = FILE.read_text().replace("\\\n", " ")
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(base)
        elif word and not word.startswith("#"):
            list(found.values())[-1].steps.append((word, rest.strip()))
    return found


@pytest.fixture(scope="module")
def root(release: Path) -> Iterator[Path]:
    """A file system after the steps of the stage that installs."""
    with a_copy_of(rootfs.prepared()) as root:
        (root / PYTHON).symlink_to("python3")
        variables: dict[str, str] = {}
        for word, rest in stages()["installed"].steps:
            if word == "ARG":
                name, _, value = rest.partition("=")
                variables[name] = value
            elif word == "COPY":
                source, target = (part.replace("${VERSION}", variables["VERSION"]) for part in rest.split())
                shutil.copy(release.parent / source, root / target.lstrip("/"))
            else:
                assert word == "RUN", word
                argv = ["chroot", str(root), "/bin/sh", "-ec", rest]
                subprocess.run(argv, check=True, env={"PATH": PATH, **variables}, capture_output=True)
        yield root


def test_it_builds_the_version_of_this_checkout() -> None:
    assert dict(stages()["installed"].steps)["ARG"] == f"VERSION={releases.version()}"


@pytest.mark.parametrize("target", ["coordinator", "gateway"])
def test_what_it_installs_runs_as_the_user_it_names(root: Path, target: str) -> None:
    base, stage = stages()["base"], stages()[target]
    assert stage.base == "base"
    assert base.last("COPY").split() == ["--from=installed", "/opt/vllm-studio", "/opt/vllm-studio"]
    argv = json.loads(stage.last("ENTRYPOINT")) + json.loads(stage.last("CMD"))
    whole = ["chroot", f"--userspec={base.last('USER')}", str(root), "env", "-i", *shlex.split(base.last("ENV")), *argv]
    said = subprocess.run(whole, check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"usage: {argv[0]}")
