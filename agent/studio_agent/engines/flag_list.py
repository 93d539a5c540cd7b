"""The flags that an installed engine takes, by its own word: what kind of value each wants, and what is close to a typo."""

import difflib
import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_CLOSE_LIST = 3


class Takes(enum.Enum):
    """What follows a flag."""

    # Nothing; it can only be turned on.
    SWITCH = "switch"
    # Nothing; another name, `--no-…`, turns it off.
    TOGGLE = "toggle"
    # Nothing; it is on, and only the name that turns it off exists.
    OFF_SWITCH = "off-switch"
    VALUE = "value"
    # One value or more.
    LIST = "list"
    # A value or nothing.
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Flag:
    """One flag under all its long names, without dashes; the first is its main one.

    ``off`` is the name that turns a toggle off. ``section`` is where it stands in the engine's configuration file, if it has one.
    """

    names: tuple[str, ...]
    takes: Takes
    off: str = ""
    section: str = ""


class FlagList:
    """Flags by name."""

    def __init__(self, flags: Iterable[Flag]) -> None:
        self.flags = tuple(flags)
        self._by_name = {name: flag for flag in self.flags for name in flag.names}

    def __len__(self) -> int:
        return len(self.flags)

    def get(self, name: str) -> Flag | None:
        """The flag called ``name``; None where the engine has none."""
        return self._by_name.get(name)

    def close_to(self, name: str) -> list[str]:
        """Names that ``name`` may have been meant to be, best first."""
        return difflib.get_close_matches(name, self._by_name, LONGEST_CLOSE_LIST)

    def encode(self) -> list[dict[str, Any]]:
        """As JSON has it."""
        return [
            {"names": list(flag.names), "takes": flag.takes.value, "off": flag.off, "section": flag.section}
            for flag in self.flags
        ]

    @classmethod
    def decode(cls, rows: Iterable[Mapping[str, Any]]) -> "FlagList":
        """Raises ValueError, KeyError or TypeError for what ``encode`` did not write."""
        return cls(
            Flag(
                tuple(map(str, row["names"])), Takes(row["takes"]), str(row.get("off", "")), str(row.get("section", ""))
            )
            for row in rows
        )


# A row of llama.cpp's help begins in the first column; what a flag does follows after two blanks at least.
_NAME = re.compile(r"-{1,2}[A-Za-z][\w-]*")


def from_llamacpp_help(text: str) -> FlagList:
    """Read the page that `llama-server --help` prints."""
    found = [flag for line in text.splitlines() if (flag := _from_help_row(line)) is not None]
    settable = {name for flag in found if flag.takes is not Takes.OFF_SWITCH for name in flag.names}
    # `--no-host` is about host buffers; it does not turn `--host` off.
    return FlagList(f for f in found if f.takes is not Takes.OFF_SWITCH or settable.isdisjoint(f.names))


def _from_help_row(line: str) -> Flag | None:
    """`-fa,   --flash-attn [on|off|auto]   set Flash Attention use …` and the like."""
    rest, names = line, []
    while found := _NAME.match(rest):
        names.append(found.group())
        rest = rest[found.end() :]
        if not rest.startswith(","):
            break
        rest = rest[1:].lstrip()
    long = [name.removeprefix("--") for name in names if name.startswith("--")]
    if not long:
        return None
    # One blank and then a word is what the value is called; after more blanks the explanation begins.
    if re.match(r" \S", rest):
        return Flag(tuple(long), Takes.VALUE)
    off = next((name for name in long if name.startswith("no-")), "")
    on = tuple(name for name in long if not name.startswith("no-"))
    if not on:
        return Flag(tuple(name.removeprefix("no-") for name in long), Takes.OFF_SWITCH, off)
    return Flag(on, Takes.TOGGLE if off else Takes.SWITCH, off)
