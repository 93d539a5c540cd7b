"""What a name may look like, and which known names are close to a wrong one."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Applications may be used to names like openai/gpt-5 or llama3:8b.
ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,126}")
NAME_RULE = "at most 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
ALIAS_RULE = "at most 127 letters, digits and . _ - / :, beginning with a letter or digit"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """At most three of ``known`` that look like ``name``, closest first."""
    return get_close_matches(name, list(known), n=3)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` to end a message with; empty where nothing is close."""
    close = close_names(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def close_names_hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """A hint for a name that is not known: those that are close, or ``otherwise``."""
    close = close_names(name, known)
    return f"Did you mean {' or '.join(close)}?" if close else otherwise
