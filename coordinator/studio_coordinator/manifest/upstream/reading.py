"""JSON text to plain recipes."""

import json
import math
from typing import Any

from studio_coordinator.manifest.decode import EXACT_INTEGER, FORBIDDEN
from studio_coordinator.manifest.tree import MAX_CHARACTERS, MAX_DEPTH

LIST_WORD = "recipes"


def read(text: str) -> list[dict[str, Any]]:
    """The recipes of ``text``: one object, a list, or an object with a list under ``recipes``. Raises ValueError."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters are more than the {MAX_CHARACTERS:,} that are read")
    try:
        said = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    if isinstance(said, dict) and isinstance(said.get(LIST_WORD), list):
        said = said[LIST_WORD]
    recipes = said if isinstance(said, list) else [said]
    if not recipes:
        raise ValueError("the list is empty")
    for number, recipe in enumerate(recipes, 1):
        if not isinstance(recipe, dict):
            raise ValueError(f"recipe {number} is not an object")  # noqa: TRY004 - to the caller it is one kind of refusal
        _refuse_unkeepable(recipe, number)
    return recipes


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _refuse_unkeepable(value: Any, number: int, depth: int = 0) -> None:
    """Raise ValueError for what a manifest cannot hold."""
    if depth > MAX_DEPTH // 2:
        raise ValueError(f"recipe {number} is nested more than {MAX_DEPTH // 2} deep")
    match value:
        case str() if FORBIDDEN.search(value):
            raise ValueError(f"recipe {number} holds a NUL or half a character")
        case int() | float() if not math.isfinite(value) or abs(value) > EXACT_INTEGER:
            raise ValueError(f"recipe {number} holds a number that cannot be kept exactly")
        case dict():
            for key, item in value.items():
                _refuse_unkeepable(key, number, depth + 1)
                _refuse_unkeepable(item, number, depth + 1)
        case list():
            for item in value:
                _refuse_unkeepable(item, number, depth + 1)
