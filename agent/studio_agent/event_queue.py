"""Events that the coordinator has not stored yet: bounded, on disk, numbered without gaps, sent at least once.

One file of JSON lines: ``{"sequence": 7, "event": {…}}`` for an event, ``{"acked": 6}`` for an acknowledgement, which is
cumulative. It only grows, until acknowledgements have made most of it useless; then it is written anew. A line that was cut by a
crash ends the file.

A gap would never be acknowledged. So a full queue drops what is new, counts it, and says so once there is room; and when a
session begins, what is left to send is numbered on from what the coordinator says it has: its memory or ours may have been lost.
"""

import asyncio
import json
import os
from collections import deque
from itertools import islice
from pathlib import Path

from google.protobuf import json_format
from studio.v1.agent_service_pb2 import AgentEvent
from studio.v1.event_pb2 import Event
from studio_runtime.process import write_atomically

from studio_agent.latest import Latest
from studio_agent.threads import to_the_end

CAPACITY = 1_000
# Rewritten when this many lines no longer matter.
USELESS_LINES = 500


class EventQueue:
    """The events of one host; used on one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events: deque[AgentEvent] = deque()
        self._last = 0
        self._acked = 0
        # Lines in the file, and those that are to be appended.
        self._lines = 0
        self._unwritten: list[str] = []
        self._rewrite_due = False
        # Whether numbers may have been used that we do not know of.
        self._uncertain = not path.exists()
        self._numberings = 0
        self._writing = asyncio.Lock()
        # Over the life of this process, and those that nobody has been told of.
        self.dropped = 0
        self._untold = 0
        # The newest event that is on disk. One that a crash could still undo is not sent: another would get its number.
        self.durable = Latest(0)
        self._load()

    def put(self, event: Event) -> int:
        """Append an event and return its sequence, 0 when there is no room; ``flush`` brings it to disk."""
        if len(self._events) >= CAPACITY:
            self.dropped += 1
            self._untold += 1
            return 0
        if self._untold:
            told, self._untold = self._untold, 0
            self.put(_dropped_event(told, event))
        self._last += 1
        numbered = AgentEvent(sequence=self._last, event=event)
        self._events.append(numbered)
        self._unwritten.append(_event_line(numbered))
        return self._last

    def agree(self, stored: int) -> None:
        """A session begins: the coordinator has stored everything up to ``stored``."""
        same_history = not self._uncertain and stored <= self._last
        self._uncertain = False
        if same_history:
            self.ack(stored)
        following = self._events[0].sequence if self._events else self._last + 1
        if following != stored + 1:
            self._renumber(stored)

    def ack(self, sequence: int) -> None:
        """The coordinator has stored everything up to ``sequence``."""
        if not self._acked < sequence <= self._last:
            return
        self._acked = sequence
        while self._events and self._events[0].sequence <= sequence:
            self._events.popleft()
        self._unwritten.append(json.dumps({"acked": sequence}))

    def after(self, sequence: int, limit: int) -> list[AgentEvent]:
        """The oldest ``limit`` durable events that are not acknowledged and come after ``sequence``."""
        durable = (event for event in self._events if sequence < event.sequence <= self.durable.value)
        return list(islice(durable, limit))

    async def flush(self) -> None:
        """Bring what was put and acknowledged to disk.

        Raises OSError; the events then count as durable all the same, because on a full disk a duplicate is better than silence.
        """
        async with self._writing:
            last, numbering = self._last, self._numberings
            try:
                await (self._rewrite() if self._is_rewrite_due() else self._append())
            finally:
                if numbering == self._numberings and last > self.durable.value:
                    self.durable.set(last)

    def _is_rewrite_due(self) -> bool:
        return self._rewrite_due or self._lines + len(self._unwritten) - len(self._events) > USELESS_LINES

    async def _rewrite(self) -> None:
        lines = [json.dumps({"acked": self._acked}), *map(_event_line, self._events)]
        # Everything is in `lines`; should this fail, the next flush is a rewrite too.
        self._unwritten.clear()
        self._rewrite_due = True
        numbering = self._numberings
        await to_the_end(write_atomically, self._path, _text(lines))
        self._rewrite_due = numbering != self._numberings
        self._lines = len(lines)

    async def _append(self) -> None:
        if not self._unwritten:
            return
        lines, self._unwritten = self._unwritten, []
        try:
            await to_the_end(_append, self._path, _text(lines))
        except OSError:
            # Part of it may stand in the file.
            self._rewrite_due = True
            raise
        self._lines += len(lines)

    def _renumber(self, stored: int) -> None:
        events = [AgentEvent(sequence=stored + n, event=e.event) for n, e in enumerate(self._events, start=1)]
        self._events = deque(events)
        self._last = stored + len(events)
        self._acked = stored
        self._numberings += 1
        self._rewrite_due = True
        self._unwritten.clear()
        self.durable.set(stored)

    def _load(self) -> None:
        try:
            content = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        whole = []
        for line in content.splitlines():
            try:
                self._take(line)
            except (ValueError, KeyError, TypeError, json_format.ParseError):
                break
            whole.append(line)
        self._lines = len(whole)
        if _text(whole).decode() != content:
            # What follows a cut line would be read as part of it.
            write_atomically(self._path, _text(whole))
            self._uncertain = True
        while self._events and self._events[0].sequence <= self._acked:
            self._events.popleft()
        self.durable.set(self._last)

    def _take(self, line: str) -> None:
        fields = json.loads(line)
        if "acked" in fields:
            self._acked = int(fields["acked"])
            self._last = max(self._last, self._acked)
            return
        sequence = int(fields["sequence"])
        self._events.append(AgentEvent(sequence=sequence, event=json_format.ParseDict(fields["event"], Event())))
        self._last = sequence


def _event_line(event: AgentEvent) -> str:
    return json.dumps({"sequence": event.sequence, "event": json_format.MessageToDict(event.event)})


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _dropped_event(count: int, before: Event) -> Event:
    event = Event(severity=Event.SEVERITY_WARNING, kind="agent.events_dropped", host=before.host, actor="agent")
    event.message = f"{count} events were dropped: the coordinator stored none for long, and {CAPACITY} were waiting"
    event.at.CopyFrom(before.at)
    return event
