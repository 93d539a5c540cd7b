"""Where output goes that nobody reads."""

import io

from rich.console import Console
from studio_cli.report import Report


def silent_report() -> Report:
    return Report(Console(file=io.StringIO()))
