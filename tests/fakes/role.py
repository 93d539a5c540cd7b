"""A stand-in for a role's process: says that it is ready, lists models as a gateway would, ends when told to, or misbehaves.

role.py --ready-file F [--http PORT] [--models demo] [--die-at-once CODE] [--never-ready] [--deaf] [--say TEXT]
"""

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread


def listing(models: list[str]) -> type[BaseHTTPRequestHandler]:
    class Listing(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            body = json.dumps({"data": [{"id": model} for model in models]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Listing


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--http", type=int)
    parser.add_argument("--models", default="demo")
    parser.add_argument("--die-at-once", type=int, help="exit code")
    parser.add_argument("--deaf", action="store_true", help="ignores SIGTERM")
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--say", default="")
    arguments = parser.parse_args()
    if arguments.say:
        print(arguments.say, flush=True)  # noqa: T201 - its log
    if arguments.die_at_once is not None:
        return arguments.die_at_once
    stopped = Event()
    signal.signal(signal.SIGTERM, (lambda *_: None) if arguments.deaf else (lambda *_: stopped.set()))
    if arguments.http:
        server = HTTPServer(("127.0.0.1", arguments.http), listing(arguments.models.split(",")))
        Thread(target=server.serve_forever, daemon=True).start()
    while arguments.never_ready and not stopped.is_set():
        time.sleep(0.02)
    partial = arguments.ready_file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"pid": os.getpid(), "metrics": "127.0.0.1:9"}), encoding="utf-8")
    partial.replace(arguments.ready_file)
    while not stopped.is_set():
        # Signals are taken by the main thread between two waits.
        time.sleep(0.02)
    return 0


if __name__ == "__main__":
    sys.exit(main())
