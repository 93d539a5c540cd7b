"""``studio events``: a line per event, in the time of whoever reads it."""

from collections.abc import Iterator
from datetime import datetime, tzinfo

from rich.text import Text
from studio.v1.event_pb2 import Event

from studio_cli import wording

SUBJECT_WIDTH = 14
VERB_WIDTH = 12
STYLES = {Event.SEVERITY_WARNING: "yellow", Event.SEVERITY_ERROR: "bold red"}


def event_line(event: Event, now: datetime, zone: tzinfo | None = None) -> Text:
    """``11:04:31  chat-2  FAILED  kv_too_small: …``; the date goes before the time where it is not today's."""
    at = wording.moment(event.at).astimezone(zone)
    when = f"{at:%H:%M:%S}" if at.date() == now.astimezone(zone).date() else f"{at:%Y-%m-%d %H:%M:%S}"
    line = Text(f"{when}  {subject(event):<{SUBJECT_WIDTH}}  ")
    line.append(f"{verb(event):<{VERB_WIDTH}}", style=STYLES.get(event.severity, ""))
    indent = " " * (line.cell_len + 2)
    said = f"{event.reason}: {event.message}" if event.reason and event.reason not in event.message else event.message
    line.append(f"  {said}".replace("\n", f"\n{indent}"))
    line.rstrip()
    return line


def subject(event: Event) -> str:
    """What it happened to."""
    return event.replica or event.deployment or event.host or event.kind.partition(".")[0]


def verb(event: Event) -> str:
    """What happened: the last part of the kind."""
    return event.kind.rpartition(".")[2].upper()


def in_order(events: Iterator[Event] | list[Event]) -> list[Event]:
    """The oldest first."""
    return sorted(events, key=lambda event: event.sequence)
