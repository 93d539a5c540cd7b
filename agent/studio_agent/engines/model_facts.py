"""What a model's own files say about how to serve it.

The facts are few and come from `config.json`, the chat template and the files beside them; a model's name is never read.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from studio.v1.recipe_pb2 import Recipe


class Task(enum.Enum):
    """What a model answers with: text, a vector, the rank of documents, or a class."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"
    CLASSIFY = "classify"


@dataclass(frozen=True)
class ModelFacts:
    """``architectures`` as in config.json; ``chat_template`` is "" where the model has none."""

    architectures: tuple[str, ...]
    chat_template: str
    task: Task


def facts_of(config: Mapping[str, Any], chat_template: str, files: Collection[str]) -> ModelFacts:
    """Read a model's ``config`` (config.json) with its template and the names of the files beside it."""
    named = config.get("architectures") or []
    architectures = tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else ()
    return ModelFacts(architectures, chat_template, _task(architectures, config, files))


def task_of(recipe: Recipe, facts: ModelFacts | None) -> Task:
    """The task of the served model: what the recipe's own flags force, else what the model's files say, else text."""
    forced = {"embed": Task.EMBED, "classify": Task.CLASSIFY}
    for flag in ("task", "convert"):
        if flag in recipe.extra_args:
            said = recipe.extra_args[flag].string_value
            if said in forced:
                return forced[said]
    if any(recipe.extra_args[flag].bool_value for flag in ("rerank", "reranking") if flag in recipe.extra_args):
        return Task.RERANK
    if any(
        recipe.extra_args[flag].bool_value
        for flag in ("is-embedding", "embedding", "embeddings")
        if flag in recipe.extra_args
    ):
        return Task.EMBED
    return facts.task if facts is not None else Task.GENERATE


def _task(architectures: tuple[str, ...], config: Mapping[str, Any], files: Collection[str]) -> Task:
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return Task.RERANK if _labels(config) == 1 else Task.CLASSIFY
    # `modules.json` is how sentence-transformers mark a model that makes vectors; a bare encoder has no head to write with.
    if "modules.json" in files or (architectures and all(name.endswith("Model") for name in architectures)):
        return Task.EMBED
    return Task.GENERATE


def _labels(config: Mapping[str, Any]) -> int:
    """How many classes a classifier tells apart; a model of one class scores. Transformers' default is two."""
    labels = config.get("id2label")
    if isinstance(labels, Mapping):
        return len(labels)
    number = config.get("num_labels")
    return number if isinstance(number, int) else 2
