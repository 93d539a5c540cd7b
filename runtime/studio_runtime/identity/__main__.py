"""``python -m studio_runtime.identity join|renew``: for nodes whose role has no ``join`` of its own, such as consoles.

The identity lies in the state folder afterwards, where ``IdentityFolder`` and ``Renewal`` of this package take it up. Where no
process of the node runs all the time, a timer calls ``renew``.
"""

import argparse
import socket
import sys
from pathlib import Path

from studio_runtime.errors import StudioError
from studio_runtime.identity.command import run_join, run_renew
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.names import KINDS
from studio_runtime.identity.options import add_join_options

EXAMPLES = """\
examples:
  studio hosts token --kind console --name web | python -m studio_runtime.identity join --kind console --name web \\
      --coordinator control:7072 --ca-file ca.pem --token-file - --state-dir /var/lib/studio/console
"""


def main() -> None:
    """Entry point; ends the process with one sentence where it is refused."""
    parsed = _parser().parse_args()
    folder = IdentityFolder(parsed.state_dir / "identity")
    try:
        if parsed.command == "renew":
            run_renew(folder, at_once=parsed.now)
        else:
            run_join(parsed, KINDS[parsed.kind], parsed.name, folder)
    except StudioError as error:
        sys.exit(f"{error.message}\n{error.hint}".rstrip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studio_runtime.identity", description="The identity of a node.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    join = commands.add_parser(
        "join",
        help="get an identity from a coordinator, with a join token",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    join.add_argument("--kind", choices=sorted(KINDS), default="console", help="of the node (default: console)")
    join.add_argument("--name", default=socket.gethostname(), help="what people call it (default: the host's name)")
    join.add_argument("--state-dir", type=Path, required=True, metavar="DIR", help="the node's own folder")
    add_join_options(join)
    renew = commands.add_parser(
        "renew",
        help="renew the identity where two thirds of its certificate's life are over: for a timer, every hour",
        epilog="example:\n  python -m studio_runtime.identity renew --state-dir /var/lib/studio/console\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    renew.add_argument("--state-dir", type=Path, required=True, metavar="DIR", help="the node's own folder")
    renew.add_argument("--now", action="store_true", help="at once: between the steps of `studio authority rotate`")
    return parser


if __name__ == "__main__":
    main()
