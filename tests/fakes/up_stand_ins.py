"""``studio up`` with stand-ins for the roles, as a process: everything else is the real supervisor.

up_stand_ins.py GATEWAY_PORT COORDINATOR_PORT [ROLE.FLAG …]      for example agent.--deaf gateway.--die-at-once=3

What stops the engines only says so; where $EPILOGUE_DIES_UNLESS names a file, it is killed before that unless the file is there,
and makes it.
"""

import sys
from dataclasses import replace
from pathlib import Path

from studio_cli.errors import exit_code, explain
from studio_cli.report import Report
from studio_cli.up.bring_up import up
from studio_cli.up.options import UpOptions
from studio_cli.up.roles import Role, roles_of
from studio_runtime.errors import StudioError
from studio_runtime.process import run_until_stopped
from studio_runtime.settings import Home

FAKES = Path(__file__).parent
COORDINATOR = f"import sys; sys.path.insert(0, {str(FAKES.parent)!r}); from fakes.admin import main; sys.exit(main())"
EPILOGUE = """
import os, pathlib, signal
mark = os.environ.get("EPILOGUE_DIES_UNLESS")
if mark and not os.path.exists(mark):
    pathlib.Path(mark).touch()
    os.kill(os.getpid(), signal.SIGKILL)
print('engines are stopped')
"""


def stand_in(role: Role, home: Home, options: UpOptions, flags: list[str]) -> Role:
    ready_file = ("--ready-file", str(home.run / f"{role.name}.json"))
    if role.name == "coordinator":
        argv = (sys.executable, "-c", COORDINATOR, "--listen", str(options.coordinator), *ready_file, *flags)
        return replace(role, argv=argv)
    http = ("--http", str(options.gateway_port)) if role.name == "gateway" else ()
    argv = (sys.executable, str(FAKES / "role.py"), *ready_file, *http, *flags)
    epilogue = (sys.executable, "-c", EPILOGUE) if role.epilogue else ()
    return replace(role, argv=argv, epilogue=epilogue, stop_seconds=1.0)


def main() -> int:
    home = Home.from_environment()
    # The database is the coordinator's affair, and this coordinator has none.
    options = UpOptions(gateway_port=int(sys.argv[1]), coordinator_port=int(sys.argv[2]), database_url="unused")
    roles = [
        stand_in(
            role, home, options, [flag.partition(".")[2] for flag in sys.argv[3:] if flag.startswith(role.name + ".")]
        )
        for role in roles_of(home, options, "lab-1")
    ]
    try:
        run_until_stopped(lambda: up(home, options, roles, Report.on_standard_output()))
    except StudioError as error:
        print(*explain(error), sep="\n", file=sys.stderr)  # noqa: T201 - as the command line prints it
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
