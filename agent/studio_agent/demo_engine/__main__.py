"""Entry point: `python -m studio_agent.demo_engine --model NAME …`."""

from functools import partial

from studio_runtime.process import run_until_stopped

from studio_agent.demo_engine.server import configure_log, serve
from studio_agent.demo_engine.settings import parse


def main() -> None:
    """Serve until SIGTERM."""
    settings = parse()
    configure_log()
    run_until_stopped(partial(serve, settings))


if __name__ == "__main__":
    main()
