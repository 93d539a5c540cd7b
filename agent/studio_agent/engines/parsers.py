"""Which tool and reasoning parsers an engine needs for a model: read from a table, never from the model's name.

`parser_families.json` lists families. A model belongs to the first row that fits: one of its architectures is listed (or the row
lists none), its chat template holds every marker of ``template_has`` and none of ``template_lacks``. The row's ``parser`` says
what each engine calls it; an empty name is "the engine needs to be told nothing".

The names are those of vLLM 0.32 and 0.33 and of TabbyAPI. SGLang finds its own parsers (`auto`), llama.cpp reads the template.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from studio_agent.engines.errors import RecipeError
from studio_agent.engines.model_facts import ModelFacts

AUTO = "auto"
Kind = Literal["tool", "reasoning"]


@dataclass(frozen=True)
class Family:
    """One row of the table."""

    family: str
    parser: Mapping[str, str]
    architectures: Sequence[str] = ()
    template_has: Sequence[str] = ()
    template_lacks: Sequence[str] = ()

    def fits(self, facts: ModelFacts) -> bool:
        """Whether a model is of this family."""
        return (
            (not self.architectures or not set(self.architectures).isdisjoint(facts.architectures))
            and all(marker in facts.chat_template for marker in self.template_has)
            and not any(marker in facts.chat_template for marker in self.template_lacks)
        )


@dataclass(frozen=True)
class ParserTable:
    """All rows, and how TabbyAPI has reasoning: as a pair of tags, by the name used here."""

    version: int
    tool: Sequence[Family]
    reasoning: Sequence[Family]
    tabbyapi_reasoning_tags: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def names(self, engine: str, kind: Kind) -> list[str]:
        """Every parser that the table knows for ``engine``, sorted."""
        return sorted({row.parser[engine] for row in self.rows(kind) if row.parser.get(engine)})

    def rows(self, kind: Kind) -> Sequence[Family]:
        """The rows of one kind of parser."""
        return self.tool if kind == "tool" else self.reasoning


def _table() -> ParserTable:
    text = resources.files(__package__).joinpath("parser_families.json").read_text(encoding="utf-8")
    raw: dict[str, Any] = json.loads(text)
    return ParserTable(
        raw["version"],
        [Family(**row) for row in raw["tool"]],
        [Family(**row) for row in raw["reasoning"]],
        raw["tabbyapi_reasoning_tags"],
    )


TABLE = _table()


def parser_for(engine: str, kind: Kind, wanted: str, facts: ModelFacts | None) -> str:
    """The parser's name: ``wanted`` itself, or for `auto` what the model's own files call for; "" for none.

    Raises RecipeError where `auto` cannot be resolved.
    """
    if wanted != AUTO:
        return wanted
    path = f"args.{kind}_parser"
    known = f"This engine has: {', '.join(TABLE.names(engine, kind))}."
    if facts is None:
        raise RecipeError(
            path, "`auto` needs the model's files on this host", f"Name the parser, or pull it first. {known}"
        )
    row = next((row for row in TABLE.rows(kind) if row.fits(facts)), None)
    if row is None:
        shown = ", ".join(facts.architectures) or "no architecture"
        raise RecipeError(path, f"no family in the table fits this model ({shown}, by its chat template)", known)
    if engine not in row.parser:
        raise RecipeError(path, f"{engine} has no {kind} parser for this model ({row.family})", known)
    return row.parser[engine]
