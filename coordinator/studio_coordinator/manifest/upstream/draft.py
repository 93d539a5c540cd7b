"""One recipe under way: what it is so far, and what was said about each field."""

from dataclasses import dataclass, field
from typing import Any

from studio.v1.admin_service_pb2 import ConvertedField
from studio.v1.recipe_pb2 import Recipe

LONGEST_TEXT = 4_096


@dataclass
class Draft:
    """``label`` names the recipe in the report; ``served`` is the public name that it had, empty for none."""

    label: str
    recipe: Recipe = field(default_factory=Recipe)
    report: list[ConvertedField] = field(default_factory=list)
    served: str = ""
    # It ran code of the model's own; settled at the end, when its revision is known.
    trusts_remote_code: bool = False
    # Something without which it is no recipe was refused.
    broken: bool = False

    @property
    def engine(self) -> str:
        """The engine's name in our words."""
        return self.recipe.engine.name

    def mapped(self, name: str, became: str = "", note: str = "") -> None:
        """It says the same under the same word; without ``became`` it said what goes without saying."""
        self._say(name, ConvertedField.OUTCOME_MAPPED, became, note)

    def renamed(self, name: str, became: str, note: str = "") -> None:
        """It says the same under another word."""
        self._say(name, ConvertedField.OUTCOME_RENAMED, became, note)

    def obsolete(self, name: str, note: str) -> None:
        """It means nothing any more."""
        self._say(name, ConvertedField.OUTCOME_OBSOLETE, "", note)

    def changed(self, name: str, became: str, note: str) -> None:
        """It means something else now."""
        self._say(name, ConvertedField.OUTCOME_CHANGED, became, note)

    def refused(self, name: str, note: str, *, fatal: bool = False) -> None:
        """It is not taken over; with ``fatal`` the recipe is not, either."""
        self._say(name, ConvertedField.OUTCOME_REFUSED, "", note)
        self.broken = self.broken or fatal

    def _say(self, name: str, outcome: ConvertedField.Outcome.ValueType, became: str, note: str) -> None:
        self.report.append(ConvertedField(recipe=self.label, field=name, outcome=outcome, became=became, note=note))


def as_whole(value: Any) -> int:
    """A whole number of 31 bits, also where it was written as a text. Raises ValueError."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or abs(value) >= 2**31:
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(value)


def as_text(value: Any) -> str:
    """A text, also where it was written as a number. Raises ValueError."""
    if isinstance(value, bool | dict | list) or value is None or len(str(value)) > LONGEST_TEXT:
        raise ValueError("expected a text")
    return str(value)


def as_switch(value: Any) -> bool:
    """True or false. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")  # noqa: TRY004 - as for the other kinds
    return value
