"""Upstream's `extra_args`: typed where there is a word for it here, else flags of the engine.

Upstream passed the bare flag also for ``false``, and so turned on what the recipe meant to turn off. Here false is off; the
report says so wherever it changes what the engine does.
"""

import json
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from studio_coordinator.manifest.checks import VARIABLE
from studio_coordinator.manifest.upstream import flags
from studio_coordinator.manifest.upstream.draft import Draft, as_switch, as_text, as_whole

ENV_WORDS = frozenset({"env-vars", "envvars"})
# Which code and which devices an engine sees is not a recipe's to say.
AGENTS_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "LD_", "PYTHON", "PATH")
FALSE_WAS_ON = "upstream passed the bare flag also for false, which turned it on; false is off here"


def flag_of(name: str) -> str:
    """The flag that a key of `extra_args` stands for."""
    return name.strip().lstrip("-").replace("_", "-").lower()


def take_extra(draft: Draft, name: str, value: Any) -> None:
    """Take one entry over; what is wrong with it is reported, and nothing is raised."""
    path, flag = f"extra_args.{name}", flag_of(name)
    try:
        if value is None:
            draft.mapped(path, note="null says nothing: left to the engine")
        elif flag in ENV_WORDS:
            take_env(draft, path, value)
        elif flag in flags.NOT_A_RECIPES:
            draft.refused(path, flags.NOT_A_RECIPES[flag])
        elif flag in flags.NOTES:
            draft.obsolete(path, "a note, which no engine ever got")
        elif not (_meta(draft, flag, path, value) or _typed(draft, flag, path, value)):
            _flag(draft, flag, name, value)
    except ValueError as error:
        draft.refused(path, str(error))


def take_env(draft: Draft, path: str, value: Any) -> None:
    """Variables of the process. Raises ValueError where they are no mapping."""
    if not isinstance(value, dict):
        raise ValueError("expected variables by name")  # noqa: TRY004 - as for the other kinds
    for name, said in value.items():
        where = f"{path}.{name}"
        if not VARIABLE.fullmatch(name):
            draft.refused(where, "not the name of an environment variable")
        elif name.startswith(AGENTS_VARIABLES):
            draft.refused(where, flags.AGENTS)
        elif said is None or isinstance(said, dict | list):
            draft.refused(where, "expected a text")
        else:
            draft.recipe.env[name] = str(int(said)) if isinstance(said, bool) else str(said)
            draft.renamed(where, f"env.{name}")


def _meta(draft: Draft, flag: str, path: str, value: Any) -> bool:
    """What is about the recipe rather than for the engine; whether it was that. Raises ValueError."""
    recipe = draft.recipe
    match flag:
        case "description":
            recipe.description = as_text(value)
            draft.renamed(path, "description")
        case "tags":
            for tag in value if isinstance(value, list) else [value]:
                recipe.labels[as_text(tag)] = ""
            draft.renamed(path, "labels", "each tag is a label without a value")
        case "revision":
            recipe.model.revision = as_text(value)
            draft.renamed(path, "model.revision")
        case "venv-path":
            take_program(draft, path, f"{as_text(value).rstrip('/')}/bin")
        case "llama-bin" if draft.engine == "llamacpp":
            recipe.engine.path = absolute(as_text(value))
            draft.renamed(path, "engine.path")
        case _:
            return False
    return True


def take_program(draft: Draft, path: str, folder: str) -> None:
    """The engine's program in ``folder``, which held upstream's interpreter. Raises ValueError."""
    if draft.engine not in ("vllm", "sglang"):
        draft.obsolete(path, f"{draft.engine} is not started by an interpreter here: name its program in engine.path")
        return
    draft.recipe.engine.path = absolute(f"{folder}/{draft.engine}")
    draft.renamed(path, "engine.path", "the engine's own program beside that interpreter; it must be on every host")


def absolute(path: str) -> str:
    """``path`` itself. Raises ValueError where it depends on who looks."""
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path")
    return path


def _typed(draft: Draft, flag: str, path: str, value: Any) -> bool:
    """What has a word among the typed arguments, or is gone; whether it was that. Raises ValueError."""
    engine, args = draft.engine, draft.recipe.args
    word = flags.WHOLE.get(engine, {}).get(flag) or flags.TEXTS.get(engine, {}).get(flag)
    if flag in flags.WHOLE.get(engine, {}):
        number = as_whole(value)
        if number < 1 and word != "seed":
            draft.mapped(path, note=f"{number} says nothing: left to the engine")
            return True
        if word == "max_model_len":
            args.max_model_len.value = number
        else:
            setattr(args, str(word), number)
    elif flag in flags.TEXTS.get(engine, {}):
        setattr(args, str(word), as_text(value))
    elif flag in flags.SWITCHES.get(engine, {}):
        _switch(draft, flag, path, as_switch(value))
        return True
    elif engine == "vllm" and (flag == "speculative-config" or flag in flags.SPECULATIVE):
        _speculative(draft, flag, value)
        word = "speculative"
    elif engine == "vllm" and flag in flags.GONE:
        draft.obsolete(path, flags.GONE[flag])
        return True
    else:
        return False
    draft.renamed(path, f"args.{word}")
    return True


def _switch(draft: Draft, flag: str, path: str, value: bool) -> None:
    word = flags.SWITCHES[draft.engine][flag]
    setattr(draft.recipe.args, word, value)
    if value or flag == flags.HONEST_SWITCH:
        draft.renamed(path, f"args.{word}")
    else:
        draft.changed(path, f"args.{word}", FALSE_WAS_ON)


def _speculative(draft: Draft, flag: str, value: Any) -> None:
    said = _plain(flag, value) if flag == "speculative-config" else {flags.SPECULATIVE[flag]: value}
    if not isinstance(said, dict):
        raise ValueError("expected the settings of speculative decoding")  # noqa: TRY004 - as for the other kinds
    draft.recipe.args.speculative.update(said)


def _flag(draft: Draft, flag: str, name: str, value: Any) -> None:
    """A flag of the engine's own, checked against the installed engine when it starts. Raises ValueError."""
    path = f"extra_args.{name}"
    if value is False and draft.engine == "llamacpp":
        draft.mapped(path, note="false was left out, and is")
        return
    turned = flag.startswith("no-") and isinstance(value, bool)
    if turned:
        flag, value = flag.removeprefix("no-"), value is False
    if flag in draft.recipe.extra_args:
        raise ValueError(f"--{flag} is given twice")
    draft.recipe.extra_args[flag].CopyFrom(ParseDict(_plain(flag, value), Value()))
    became = f"extra_args.{flag}"
    # `no_x: false` meant x, and upstream passed --no-x for it.
    if (value is False and not turned) or (turned and value is True):
        draft.changed(path, became, FALSE_WAS_ON)
    elif became == path:
        draft.mapped(path, became)
    else:
        draft.renamed(path, became)


def _plain(flag: str, value: Any) -> Any:
    """``value`` as the engine got it: JSON text read where upstream did, dashes in the keys of mappings as underscores."""
    if flag in flags.JSON_TEXT and isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            raise ValueError("expected JSON") from None
    match value:
        case dict():
            return {key.replace("-", "_"): _plain("", item) for key, item in value.items()}
        case list():
            return [_plain("", item) for item in value]
        case _:
            return value
