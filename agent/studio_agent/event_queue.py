"""Events that the coordinator has not stored yet: bounded, on disk, numbered, acknowledged cumulatively, sent at least once.

One file of JSON lines: ``{"sequence": 7, "event": {…}}`` for an event, ``{"acked": 6}`` for an acknowledgement. It only grows,
until acknowledgements have made most of it useless; then it is written anew. A line that was cut by a crash ends the file. When
the queue is full the oldest event goes: what happens now matters more.

A queue whose file was lost begins at 1 again while the coordinator may know higher numbers; what it hears in its
first Welcome then moves its numbers up instead of dropping events that nobody has stored.
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
        self._lines = 0
        # Lines that are not on disk yet.
        self._unwritten: list[str] = []
        self._began_anew = not path.exists()
        self._writing = asyncio.Lock()
        self.dropped = 0
        # The newest event that is on disk. One that a crash could still undo is not sent: another would get its number.
        self.durable = Latest(0)
        self._load()

    def put(self, event: Event) -> int:
        """Append an event and return its sequence; ``flush`` brings it to disk."""
        self._last += 1
        numbered = AgentEvent(sequence=self._last, event=event)
        self._events.append(numbered)
        if len(self._events) > CAPACITY:
            self._events.popleft()
            self.dropped += 1
        self._unwritten.append(_event_line(numbered))
        return self._last

    def agree(self, sequence: int) -> None:
        """A session begins, and the coordinator says what it has stored."""
        if self._began_anew and sequence > 0:
            self._renumber(sequence)
        self._began_anew = False
        self.ack(sequence)

    def ack(self, sequence: int) -> None:
        """The coordinator has stored everything up to ``sequence``."""
        # An acknowledgement of what was never sent comes from another history of this host.
        sequence = min(sequence, self._last)
        if sequence <= self._acked:
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
            last = self._last
            try:
                await self._flush()
            finally:
                if last > self.durable.value:
                    self.durable.set(last)

    async def _flush(self) -> None:
        if self._lines + len(self._unwritten) - len(self._events) > USELESS_LINES:
            lines = [json.dumps({"acked": self._acked}), *map(_event_line, self._events)]
            self._unwritten.clear()
            await to_the_end(write_atomically, self._path, _text(lines))
            self._lines = len(lines)
        elif self._unwritten:
            lines, self._unwritten = self._unwritten, []
            try:
                await to_the_end(_append, self._path, _text(lines))
            except OSError:
                self._unwritten[:0] = lines
                raise
            self._lines += len(lines)

    def _renumber(self, stored: int) -> None:
        events = [AgentEvent(sequence=stored + n, event=e.event) for n, e in enumerate(self._events, start=1)]
        self._events = deque(events)
        self._last = stored + len(events)
        self._acked = stored
        self._unwritten += [json.dumps({"acked": stored}), *map(_event_line, events)]
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
            self._began_anew = True
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
        while self._events and self._events[-1].sequence >= sequence:
            self._events.pop()
        self._events.append(AgentEvent(sequence=sequence, event=json_format.ParseDict(fields["event"], Event())))
        self._last = sequence


def _event_line(event: AgentEvent) -> str:
    return json.dumps({"sequence": event.sequence, "event": json_format.MessageToDict(event.event)})


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
