"""Options of the command line in a file, so that a reload can take up changed ones.

Words are split as a shell splits them, over as many lines as one likes; ``#`` begins a comment. They count where the file is
named: what stands after it on the command line overrides them. A file that is not there says nothing.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

OPTION = "--options-file"


class OptionsFile(argparse.Action):
    """Takes the words of the named file as if they stood in its place."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Called by argparse where the option is met; ends the process as any other bad option does."""
        file = Path(str(values))
        try:
            words = words_in(file)
        except (OSError, ValueError) as error:
            parser.error(f"{option_string} {file}: {error}")
        if OPTION in words:
            parser.error(f"{option_string} {file}: it names another {OPTION}")
        parser.parse_args(words, namespace)


def words_in(file: Path) -> list[str]:
    """The words of ``file``; none where it is missing. Raises OSError, and ValueError for a quotation without an end."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return shlex.split(text, comments=True)
