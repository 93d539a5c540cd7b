"""The coordinator's command line."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, Address, Home

from studio_coordinator.storage_flags import StorageFlags, add_storage_options, storage_flags
from studio_coordinator.tls_flags import TlsFlags, add_tls_options, tls_flags

EXAMPLES = """\
examples:
  studio-coordinator serve                                   embedded PostgreSQL under $STUDIO_HOME/pg, which must be running
  STUDIO_DATABASE_URL=postgresql://studio@db/studio studio-coordinator serve --tls --listen 10.0.0.5:7070
  studio-coordinator serve --state-dir /var/lib/studio/second --key-pepper-file /etc/studio/key-pepper \\
      --master-key-file /etc/studio/master-key --advertise control2:7070
                                                              a second one on the same database, which takes over
  studio-coordinator operator-create --name ann --role admin    the first operator's token, on standard output
  studio-coordinator postgres --data-dir /var/lib/studio/pg   run the embedded PostgreSQL in the foreground
  studio-coordinator migrations-check                         every migration up, down and up again, on a throw-away database
"""


@dataclass(frozen=True)
class ServeSettings:
    """How ``serve`` was called."""

    listen: Address
    storage: StorageFlags
    metrics: Address
    ready_file: Path | None
    log_level: str
    lease_ttl_seconds: float
    heartbeat_seconds: float
    lost_after_seconds: float
    leader_grace_seconds: float
    # Where others reach this coordinator; None: where it listens.
    advertise: Address | None
    # Headers of models are not read from the hub, only from hosts.
    hub_offline: bool
    # Every call needs a token or a certificate; with TLS always.
    require_tokens: bool
    # None: in clear text, on loopback.
    tls: TlsFlags | None


def parser() -> argparse.ArgumentParser:
    """The parser for all of the coordinator's commands."""
    home = Home.from_environment()
    top = argparse.ArgumentParser(
        prog="studio-coordinator",
        description="The coordinator of vLLM Studio: owns recipes in PostgreSQL, schedules models onto hosts, keeps routes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="run the coordinator", epilog=EXAMPLES, formatter_class=top.formatter_class
    )
    serve.add_argument("--listen", type=Address.parse, default=Address("127.0.0.1", DEFAULT_COORDINATOR_PORT))
    serve.add_argument(
        "--advertise",
        type=Address.parse,
        metavar="HOST:PORT",
        help="where agents, gateways and operators reach this coordinator (default: where it listens)",
    )
    serve.add_argument(
        "--require-tokens",
        action="store_true",
        help="refuse calls without a token on a loopback listener, too; local-token in the state folder holds one for this user",
    )
    add_storage_options(serve, home)
    serve.add_argument("--metrics", type=Address.parse, default=Address("127.0.0.1", DEFAULT_COORDINATOR_PORT + 1))
    serve.add_argument("--ready-file", type=Path, help="written (JSON) once it serves")
    serve.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    serve.add_argument("--lease-ttl-seconds", type=float, default=15.0, help="of the leader's lease")
    serve.add_argument("--heartbeat-seconds", type=float, default=5.0, help="asked of agents")
    serve.add_argument(
        "--lost-after-seconds", type=float, default=600.0, help="silence after which replicas are replaced"
    )
    serve.add_argument(
        "--leader-grace-seconds",
        type=float,
        default=300.0,
        help="how long after a change of leader the silence of hosts does not count",
    )
    add_tls_options(serve)
    postgres = commands.add_parser("postgres", help="run the embedded PostgreSQL in the foreground")
    postgres.add_argument("--data-dir", type=Path, default=home.postgres)
    postgres.add_argument(
        "--until-ready", action="store_true", help="run nothing: wait until the one that runs there takes connections"
    )
    operator = commands.add_parser(
        "operator-create", help="make an operator and print its token, which is shown this once"
    )
    operator.add_argument("--name", required=True)
    operator.add_argument("--role", choices=["viewer", "operator", "admin"], required=True)
    operator.add_argument(
        "--tenant", default="", help="sees and changes only what is this tenant's (default: the whole fleet)"
    )
    operator.add_argument(
        "--replace",
        action="store_true",
        help="where there is one of that name, revoked or not, give it this token and these rights instead of refusing",
    )
    operator.add_argument("--expires-in-days", type=float, metavar="N", help="(default: never)")
    add_storage_options(operator, home)
    commands.add_parser("migrations-check", help="prove every migration on a throw-away database")
    commands.add_parser("estimate", help="what a model needs of a GPU; has a --help of its own")
    return top


def serve_settings(arguments: argparse.Namespace) -> ServeSettings:
    """What ``serve`` needs."""
    return ServeSettings(
        listen=arguments.listen,
        storage=storage_flags(arguments),
        metrics=arguments.metrics,
        ready_file=arguments.ready_file,
        log_level=arguments.log_level,
        lease_ttl_seconds=arguments.lease_ttl_seconds,
        heartbeat_seconds=arguments.heartbeat_seconds,
        lost_after_seconds=arguments.lost_after_seconds,
        leader_grace_seconds=arguments.leader_grace_seconds,
        advertise=arguments.advertise,
        hub_offline=os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"),
        require_tokens=arguments.require_tokens or arguments.tls,
        tls=tls_flags(arguments),
    )
