"""The paths at which two messages of the same kind differ, as an operator reads them."""

from collections.abc import Iterator
from typing import Any

from studio_coordinator.manifest.dump import dump
from studio_coordinator.manifest.kinds import Item

# Values of environment variables may be secrets: that they changed is said, not to what.
HIDDEN = "env."


def changed_paths(before: Item, after: Item) -> list[str]:
    """One line for each path that differs: ``args.max_model_len: 1024 → 2048``, in the order of the paths."""
    old, new = dict(_leaves(dump(before))), dict(_leaves(dump(after)))
    return [_line(path, old.get(path), new.get(path)) for path in sorted(old | new) if old.get(path) != new.get(path)]


def _line(path: str, old: str | None, new: str | None) -> str:
    if path.startswith(HIDDEN):
        return f"{path}: {'set' if old is None else 'removed' if new is None else 'changed'}"
    return f"{path}: {'unset' if old is None else old} → {'unset' if new is None else new}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each path with its value as text; a list is one value."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield path, f"[{', '.join(_text(item) for item in value)}]"
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
