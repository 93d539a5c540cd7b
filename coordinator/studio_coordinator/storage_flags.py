"""Where a coordinator keeps things: the flags that all of its commands share which touch them."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.settings import Home


@dataclass(frozen=True)
class StorageFlags:
    """The database and what lies beside it."""

    # Empty: the embedded PostgreSQL in `embedded_data_dir`.
    database_url: str
    # Of the role that owns the tables; empty: the one above.
    owner_url: str
    embedded_data_dir: Path
    state_dir: Path
    # None: in `state_dir`.
    key_pepper_file: Path | None
    # None: in `state_dir`.
    master_key_file: Path | None


def add_storage_options(parser: argparse.ArgumentParser, home: Home) -> None:
    """Add the options to ``parser``."""
    parser.add_argument(
        "--key-pepper-file",
        type=Path,
        metavar="FILE",
        help="secret that API keys are hashed with; the same for all coordinators on one database "
        "(default: key-pepper in the state folder)",
    )
    parser.add_argument(
        "--master-key-file",
        type=Path,
        metavar="FILE",
        help="key that stored secrets are sealed with; the same for all coordinators on one database "
        "(default: master-key in the state folder)",
    )
    parser.add_argument(
        "--embedded-data-dir", type=Path, default=home.postgres, help="used without STUDIO_DATABASE_URL"
    )
    parser.add_argument("--state-dir", type=Path, default=home.coordinator)


def storage_flags(arguments: argparse.Namespace) -> StorageFlags:
    """As they were given. The database's URLs come from the environment: they may hold a password."""
    return StorageFlags(
        database_url=os.environ.get("STUDIO_DATABASE_URL", ""),
        owner_url=os.environ.get("STUDIO_DATABASE_OWNER_URL", ""),
        embedded_data_dir=arguments.embedded_data_dir,
        state_dir=arguments.state_dir,
        key_pepper_file=arguments.key_pepper_file,
        master_key_file=arguments.master_key_file,
    )
