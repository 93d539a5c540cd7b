"""Logs: an event name with fields, as JSON lines, or in console style on a terminal.

What looks like a key or a token is hidden by its form; what is a secret of this process (``hide``) by its value, wherever it
stands. A line that cannot be written (a full disk, a terminal that has gone) is lost and ends nothing.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

# Keys of the gateway, Hugging Face tokens, tokens of operators and to join with, wherever they stand in a text.
SECRET = re.compile(r"\b(sk-|hf_|vs[a-z]_)[A-Za-z0-9_-]{8,}")
HIDDEN = "…"
# A shorter value would blank out half of the log, and is no secret.
SHORTEST_HIDDEN = 6
# The newest ones; a process that handles more of them than this forgets the oldest.
MOST_HIDDEN = 1000
_hidden: dict[str, None] = {}


class _Unfailing:
    """A text file for which a write that fails is no error."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write, or not."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(OSError):
            self._file.flush()


def hide(value: str) -> None:
    """Keep ``value``, a secret that this process has come to know, out of every line that it logs from now on."""
    if len(value) >= SHORTEST_HIDDEN:
        _hidden.pop(value, None)
        _hidden[value] = None
        while len(_hidden) > MOST_HIDDEN:
            del _hidden[next(iter(_hidden))]


def redacted(text: str) -> str:
    """``text`` without what is a secret by value or by form."""
    for value in _hidden:
        if value in text:
            text = text.replace(value, HIDDEN)
    return SECRET.sub(rf"\1{HIDDEN}", text)


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redacted(value)
        case dict():
            return {key: _redacted(item) for key, item in value.items()}
        case list() | tuple():
            return [_redacted(item) for item in value]
        case int() | float() | None:
            return value
        case _:
            # An object whose text is made only by the renderer: an exception, a path.
            return redacted(str(value)) if _hidden else value


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: hide secrets in every field, however deep."""
    for key, value in event.items():
        event[key] = _redacted(value)
    return event


def configure_logging(role: str, level: str = "info") -> None:
    """Send structlog and the standard library's warnings to standard error; ``role`` is on every line."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    errors = cast("TextIO", _Unfailing(sys.stderr))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=errors),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)
