"""What is said once all is ready: where to send requests, with which key, and what to try."""

import json
import os
import shlex
from collections.abc import Sequence

from studio_runtime.settings import Home

from studio_cli.report import Report


def curl_line(gateway_url: str, api_key: str, model: str) -> str:
    """A command that works as it is."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello"}]})
    return (
        f'curl {gateway_url}/v1/chat/completions -H "Authorization: Bearer {api_key}" '
        f"-H \"Content-Type: application/json\" -d '{body}'"
    )


def welcome(home: Home, gateway_url: str, api_key: str, serving: Sequence[str], report: Report, ending: str) -> None:
    """Print it; ``ending`` says how the system is stopped."""
    report.line("")
    report.line(f"  gateway  {gateway_url}   (OpenAI API under /v1)")
    report.line(f"  API key  {api_key}   (kept in {home.root / 'api-key'})")
    if serving:
        report.line("")
        report.line(f"  {curl_line(gateway_url, api_key, serving[0])}")
    report.line("")
    logs = f" · studio logs -f {serving[0]}" if serving else ""
    report.line(f"  studio ps · studio events --watch{logs} · studio hosts · {ending}")
    if "STUDIO_HOME" in os.environ:
        report.line(f"  in another shell first: export STUDIO_HOME={shlex.quote(str(home.root))}")
    report.line("")
