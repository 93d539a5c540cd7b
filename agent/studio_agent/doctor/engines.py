"""Check of the engine environments that are installed."""

import os
import subprocess
from pathlib import Path

from studio.v1.host_pb2 import EngineEnvironment

from studio_agent.doctor.finding import Finding, bad, note, ok
from studio_agent.environments import installed
from studio_agent.settings import AgentSettings

RUN_SECONDS = 5.0


def environments(settings: AgentSettings) -> Finding:
    """Each must have an interpreter that runs: it is linked to the host's own, which an upgrade may take away."""
    found = installed(settings.engines_dir)
    if not found:
        return note(f"none below {settings.engines_dir}", "The first start of an engine installs what it needs.")
    broken = {_name(each): problem for each in found if (problem := _problem(Path(each.path)))}
    if broken:
        seen = "; ".join(f"{name}: {problem}" for name, problem in broken.items())
        return bad(seen, f"Remove {' and '.join(broken)} (`studio engines remove`); the next start installs anew.")
    return ok(", ".join(map(_name, found)))


def _name(environment: EngineEnvironment) -> str:
    return f"{environment.engine} {environment.version}"


def _problem(program: Path) -> str:
    interpreter = program.with_name("python")
    if not os.path.lexists(interpreter):
        # A program that needs none.
        return ""
    try:
        subprocess.run([interpreter, "-I", "-c", ""], check=True, capture_output=True, timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return f"its interpreter did not answer within {RUN_SECONDS:.0f} s"
    except (OSError, subprocess.CalledProcessError) as error:
        return f"its interpreter does not run ({error})"
    return ""
