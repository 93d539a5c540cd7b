"""Server-sent events as bytes: cut where they end, read where they hold usage, dropped where the client did not ask ★.

Every event leaves as it came. An event ends with an empty line; lines end with LF or CRLF. Where the reads of the network cut
the stream has no effect on what comes out; only whole events come out, so that a stream that dies can be ended by one more.
"""

import json
import re
from typing import Any

from studio_gateway.usage import Usage

END = re.compile(rb"\n\r?\n")
# In a JSON string the quotes of these names would be escaped, so this is the field and never text of the model.
FINISH = re.compile(rb'"(?:finish|stop)_reason"\s*:\s*"([^"\\]{1,40})"')
NO_REASON = (b":null", b": null")
DONE = re.compile(rb"^data:\s*\[DONE\]\s*$", re.MULTILINE)
LONGEST_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLongError(Exception):
    """The stream holds an event longer than 16 MiB; it is no stream of events."""


class EventStream:
    """One stream on its way through: bytes in, bytes out, usage read by the way.

    ``strip_usage``: the event that holds nothing but usage was asked for by the gateway, and is taken out again.
    """

    def __init__(self, *, strip_usage: bool) -> None:
        self.usage = Usage()
        self.finish = ""
        # Whether the stream has said that it is complete.
        self.is_done = False
        self._strip_usage = strip_usage
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Take what one read gave; returns the events that are whole now. Raises EventTooLongError."""
        if not self._tail and b'"usage"' not in data and data[-2:] == b"\n\n" and data[-3:-2] not in b"\r\n":
            # Whole events, none of which holds counts: nearly all. (A third line end might belong to a next event.)
            if b"[DONE]" in data or _gives_a_reason(data):
                self._note_end(data)
            return data
        start_of_search = max(0, len(self._tail) - 2)
        buffer = self._tail + data if self._tail else data
        passed: list[bytes] = []
        start = 0
        for end in END.finditer(buffer, start_of_search):
            event = buffer[start : end.end()]
            start = end.end()
            if not self._is_extra(event):
                passed.append(event)
        self._tail = buffer[start:]
        if len(self._tail) > LONGEST_EVENT_BYTES:
            raise EventTooLongError
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def finished(self) -> bytes:
        """What the stream held after its last whole event; call it when the stream has ended as it should."""
        tail, self._tail = self._tail, b""
        return b"" if tail and self._is_extra(tail) else tail

    def _is_extra(self, event: bytes) -> bool:
        """Read one event; returns whether it is the one to take out."""
        self._note_end(event)
        if b'"usage"' not in event:
            return False
        document = _document(event)
        self.usage.take_document(document)
        return self._strip_usage and _is_only_usage(document)

    def _note_end(self, events: bytes) -> None:
        """Read from one event or several why and whether the stream has ended; most say that they are not the end."""
        if _gives_a_reason(events):
            for found in FINISH.finditer(events):
                self.finish = found.group(1).decode("ascii", "replace")
        if b"[DONE]" in events and DONE.search(events):
            self.is_done = True
            self.usage.is_final = self.usage.is_counted


def _gives_a_reason(events: bytes) -> bool:
    """Whether one of the ``finish_reason`` or ``stop_reason`` may be another than ``null``."""
    at = events.find(b'_reason"')
    while at >= 0 and events.startswith(NO_REASON, at + 8):
        at = events.find(b'_reason"', at + 13)
    return at >= 0


def _document(event: bytes) -> Any:
    """The JSON in the ``data`` lines of an event; None where it is not JSON."""
    lines = (line.rstrip(b"\r") for line in event.split(b"\n"))
    data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_only_usage(document: Any) -> bool:
    """Whether this is the extra event of ``include_usage``: counts, and no choice."""
    return isinstance(document, dict) and document.get("choices") == [] and isinstance(document.get("usage"), dict)
