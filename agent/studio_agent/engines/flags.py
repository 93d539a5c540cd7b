"""Command-line words out of typed values and out of a recipe's `extra_args`.

Every value becomes exactly one word of the argv, unchanged, or is refused: no shell, no splitting, and no way for a value to be
read as another flag. A value that begins with a dash is joined to its flag (`--seed=-1`).
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value

from studio_agent.engines.errors import RecipeError

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def words(flag: str, value: bool | float | str | Sequence[Any] | Mapping[str, Any], path: str) -> list[str]:
    """The words of one flag: `--flag`, `--no-flag`, `--flag value`, `--flag a b`, or JSON. Raises RecipeError at ``path``."""
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_text(item, path) for item in value]
        if not items or any(item.startswith("-") for item in items):
            raise RecipeError(path, "a list needs at least one value, and none that begins with a dash")
        return [f"--{flag}", *items]
    text = _text(value, path)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def _text(value: Any, path: str) -> str:
    match value:
        case str():
            text = value
        case None:
            raise RecipeError(path, "null says nothing", "Leave the argument out to have the engine's default.")
        case dict() | list() | bool():
            text = json.dumps(_whole_numbers(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        case _:
            text = str(_whole_numbers(value))
    return checked(text, path)


def _whole_numbers(value: Any) -> Any:
    """``value`` with 5 for 5.0 at every depth: protobuf keeps each number of a recipe as a double."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole_numbers(item) for key, item in value.items()}
        case list():
            return [_whole_numbers(item) for item in value]
        case _:
            return value


def checked(text: str, path: str) -> str:
    """``text`` itself. Raises RecipeError where no process could be given it."""
    if "\0" in text:
        raise RecipeError(path, "holds a NUL character, which no command line can carry")
    return text


def extra_words(extra_args: Mapping[str, Value], owned: Collection[str], typed: Collection[str]) -> list[str]:
    """The words of `extra_args`, sorted by name.

    ``owned`` flags are the agent's alone; ``typed`` ones are set by the recipe's `args` already. Raises RecipeError.
    """
    argv: list[str] = []
    for name in sorted(extra_args):
        path = f"extra_args.{name}"
        _check_name(name, path, owned, typed)
        argv += words(name, MessageToDict(extra_args[name]), path)
    return argv


def _check_name(name: str, path: str, owned: Collection[str], typed: Collection[str]) -> None:
    if not NAME.fullmatch(name):
        raise RecipeError(path, "a flag is named by lower-case letters, digits and dashes, without the leading dashes")
    if name.startswith("no-"):
        raise RecipeError(path, f"say `{name.removeprefix('no-')}: false` instead")
    subject = _subject(name)
    for taken, why in ((owned, "is set by the agent"), (typed, "is set in `args` already")):
        for flag in taken:
            if subject == _subject(flag):
                raise RecipeError(path, f"--{flag} {why}")
            # The engine's parser takes abbreviations, so `hos` would be `host`.
            if flag.startswith(name):
                raise RecipeError(path, f"is short for --{flag}, which {why}")


def _subject(flag: str) -> str:
    """What a flag switches, whichever way: `disable-x` and `enable-x` are both about x."""
    return flag.removeprefix("disable-").removeprefix("enable-")
