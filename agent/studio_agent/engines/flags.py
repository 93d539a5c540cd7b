"""Command-line words out of typed values and out of a recipe's `extra_args`.

Every value becomes exactly one word of the argv, unchanged, or is refused: no shell, no splitting, and no way for a value to be
read as another flag.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value

from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flag_list import Flag, FlagList, Takes

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
Setting = bool | float | str | Sequence[Any] | Mapping[str, Any]
SECRET = re.compile(r"(?:^|-)(?:api-key|hf-token|password|secret)(?:-|$)")


def words(flag: str, value: Setting, path: str) -> list[str]:
    """The words of one flag for a parser like argparse. Raises RecipeError at ``path``.

    `--flag`, `--no-flag`, `--flag value`, `--flag a b`, or JSON; a value that begins with a dash is joined, `--flag=-1`.
    """
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_text(item, path) for item in value]
        if not items or any(item.startswith("-") for item in items):
            raise RecipeError(path, "a list needs at least one value, and none that begins with a dash")
        return [f"--{flag}", *items]
    text = _text(value, path)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def plain_words(flag: str, value: Setting, path: str, *, takes_value: bool) -> list[str]:
    """The words of one flag for a parser that takes the next word as the value, whatever it is, and knows no `--flag=value`.

    ``takes_value``: the flag is known to take one. Else a text with a dash in front is refused: after a mere switch it would be
    a flag. Raises RecipeError at ``path``.
    """
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        raise RecipeError(path, "takes one value, not a list")
    text = _text(value, path)
    if text.startswith("-") and isinstance(value, str) and not takes_value:
        raise RecipeError(path, "a value that begins with a dash needs the installed engine's list of flags")
    return [f"--{flag}", text]


def _text(value: Any, path: str) -> str:
    match value:
        case str():
            text = value
        case None:
            raise RecipeError(path, "null says nothing", "Leave the argument out to have the engine's default.")
        case dict() | list() | bool():
            text = json.dumps(whole_numbers(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        case _:
            text = str(whole_numbers(value))
    return checked(text, path)


def whole_numbers(value: Any) -> Any:
    """``value`` with 5 for 5.0 at every depth: protobuf keeps each number of a recipe as a double."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: whole_numbers(item) for key, item in value.items()}
        case list():
            return [whole_numbers(item) for item in value]
        case _:
            return value


def checked(text: str, path: str) -> str:
    """``text`` itself. Raises RecipeError where no process could be given it."""
    if "\0" in text:
        raise RecipeError(path, "holds a NUL character, which no command line can carry")
    return text


@dataclass(frozen=True)
class ExtraFlags:
    """How an engine takes `extra_args`.

    ``owned`` flags are the agent's alone; ``known`` is what the installed program takes, None where it could not be asked.
    ``abbreviates``: its parser takes the beginning of a flag for the flag. ``has_off_forms``: where the program could not be
    asked, a switch is turned off by `--no-…`; else by leaving it out. ``joins``: its parser takes `--flag=value`.
    """

    owned: Collection[str]
    abbreviates: bool
    has_off_forms: bool
    joins: bool = True
    known: FlagList | None = None

    def words(self, extra_args: Mapping[str, Value], typed: Collection[str]) -> list[str]:
        """The words of ``extra_args``, sorted by name. ``typed`` flags are set by the recipe's `args` already.

        Raises RecipeError for what the engine would not take, and for what is not the recipe's to say.
        """
        argv: list[str] = []
        for name in sorted(extra_args):
            path = f"extra_args.{name}"
            flag = self.checked(name, typed)
            value: Any = MessageToDict(extra_args[name])
            if flag is not None:
                argv += self._words_of(flag, name, value, path)
            elif value is not False or self.has_off_forms:
                argv += words(name, value, path) if self.joins else plain_words(name, value, path, takes_value=False)
        return argv

    def checked(self, name: str, typed: Collection[str]) -> Flag | None:
        """What the engine says about the flag ``name``, None where it was not asked. Raises RecipeError."""
        path = f"extra_args.{name}"
        if not NAME.fullmatch(name):
            raise RecipeError(path, "a flag is named by lower-case letters, digits and dashes, without leading dashes")
        if name.startswith("no-"):
            raise RecipeError(path, f"say `{name.removeprefix('no-')}: false` instead")
        flag = None if self.known is None else self.known.get(name)
        subjects = {_subject(each) for each in (name, *(flag.names if flag is not None else ()))}
        for taken, why in ((self.owned, "is set by the agent"), (typed, "is set in `args` already")):
            for other in taken:
                if _subject(other) in subjects:
                    raise RecipeError(path, f"--{other} {why}")
                # The engine's parser would take `hos` for `host`.
                if self.abbreviates and flag is None and other.startswith(name):
                    raise RecipeError(path, f"is short for --{other}, which {why}")
        if SECRET.search(name):
            raise RecipeError(path, "everybody on the host can read a command line", "Give the secret in `env`.")
        if self.known is not None and flag is None:
            close = self.known.close_to(name)
            hint = f"Did you mean {' or '.join(f'`{each}`' for each in close)}?" if close else ""
            raise RecipeError(path, "the installed engine has no such flag", hint)
        return flag

    def _words_of(self, flag: Flag, name: str, value: Any, path: str) -> list[str]:
        """As ``words``, and only if the value is of the kind that the flag takes. Off is the form that the flag has."""
        switch = flag.takes in (Takes.SWITCH, Takes.TOGGLE, Takes.OFF_SWITCH)
        if isinstance(value, bool) and (switch or flag.takes is Takes.OPTIONAL):
            if value:
                return [] if flag.takes is Takes.OFF_SWITCH else [f"--{name}"]
            return [f"--{flag.off}"] if flag.off else []
        if switch:
            raise RecipeError(path, f"is a switch: say true or false, not {value!r}")
        if isinstance(value, bool):
            raise RecipeError(path, "takes a value, not true or false")
        if isinstance(value, list) and flag.takes is not Takes.LIST:
            raise RecipeError(path, "takes one value, not a list")
        return words(name, value, path) if self.joins else plain_words(name, value, path, takes_value=True)


def _subject(flag: str) -> str:
    """What a flag switches, whichever way: `disable-x` and `enable-x` are both about x."""
    return flag.removeprefix("disable-").removeprefix("enable-")
