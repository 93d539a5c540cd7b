"""Upstream's first-class fields, each to what it is here. A handler raises ValueError for a value that it refuses."""

from collections.abc import Callable, Mapping
from typing import Any

from studio_coordinator.manifest.checks import SOURCE
from studio_coordinator.manifest.upstream.draft import Draft, as_switch, as_text, as_whole
from studio_coordinator.manifest.upstream.extra import absolute, take_env, take_program

# Two ways to write the same field.
ALIASES: Mapping[str, str] = {
    "engine": "backend",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "env-vars": "env_vars",
    "envVars": "env_vars",
}
ENGINES: Mapping[str, str] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llamacpp",
    "llama.cpp": "llamacpp",
    "tabbyapi": "tabbyapi",
    "exllamav3": "tabbyapi",
    "transformers": "vllm",
}
# Each engine has its own spelling, and upstream's detection mixed them.
PARSER_SPELLINGS: Mapping[str, Mapping[str, str]] = {
    "vllm": {"minimax-m2": "minimax_m2", "minimax-append-think": "minimax_m2_append_think"},
    "sglang": {"minimax_m2": "minimax-m2", "minimax_m2_append_think": "minimax-append-think"},
}
PYTHON_ENGINES = ("vllm", "sglang")
STORED_ONLY = "was stored and never used"


def take_backend(draft: Draft, name: str, value: Any) -> None:
    """The engine."""
    said = as_text("vllm" if value is None else value).lower()
    if said not in ENGINES:
        draft.refused(name, f"there is no engine {said!r} here", fatal=True)
        return
    draft.recipe.engine.name = ENGINES[said]
    if ENGINES[said] == said:
        draft.renamed(name, "engine.name")
    else:
        draft.changed(name, "engine.name", f"{said} is served by {ENGINES[said]}")


def take_model_path(draft: Draft, name: str, value: Any) -> None:
    """A directory, or an id of the hub."""
    said = as_text(value)
    source = f"path://{said.rstrip('/')}" if said.startswith("/") else f"hf://{said}"
    if not SOURCE.fullmatch(source):
        draft.refused(name, f"{said!r} is neither an absolute path nor OWNER/NAME", fatal=True)
        return
    draft.recipe.model.source = source
    draft.renamed(name, "model.source")


def take_label(draft: Draft, name: str, value: Any) -> None:
    """What people called it."""
    draft.recipe.description = as_text(value)
    draft.renamed(name, "description")


def take_parallel(draft: Draft, name: str, value: Any) -> None:
    """Over how many GPUs it was split."""
    size, word = as_whole(value), {"tensor_parallel_size": "tensor_parallel"}.get(name, "pipeline_parallel")
    if draft.engine not in PYTHON_ENGINES:
        draft.obsolete(name, f"{draft.engine} never got it")
    elif size < 1:
        raise ValueError(f"{size} is less than 1")
    elif size == 1:
        draft.mapped(name, note="1 goes without saying")
    else:
        if word == "tensor_parallel":
            draft.recipe.args.tensor_parallel.value = size
        else:
            draft.recipe.args.pipeline_parallel = size
        draft.renamed(name, f"args.{word}")


def take_max_model_len(draft: Draft, name: str, value: Any) -> None:
    """The longest context."""
    size = as_whole(value)
    if size < 1:
        raise ValueError(f"{size} is less than 1")
    draft.recipe.args.max_model_len.value = size
    draft.mapped(name, "args.max_model_len")


def take_memory_share(draft: Draft, name: str, value: Any) -> None:
    """A share of a device, whose size is not known here."""
    if draft.engine not in PYTHON_ENGINES:
        draft.obsolete(name, f"{draft.engine} never got it")
        return
    draft.recipe.resources.gpu.memory.auto = True
    note = f"{value} was a share of the whole device, and meant other things to other engines; now it is bytes, here estimated"
    draft.changed(name, "resources.gpu.memory", note)


def take_count(draft: Draft, name: str, value: Any) -> None:
    """How many requests at once."""
    count = as_whole(value)
    if draft.engine not in PYTHON_ENGINES:
        draft.obsolete(name, f"{draft.engine} never got it")
    elif count < 1:
        draft.mapped(name, note=f"{count} says nothing: left to the engine")
    else:
        draft.recipe.args.max_num_seqs = count
        draft.mapped(name, "args.max_num_seqs")


def take_text(draft: Draft, name: str, value: Any) -> None:
    """A word for the engine: the type of the weights, of the cache, or of the quantization."""
    if value is None or value in ("", "auto"):
        draft.mapped(name, note="left to the engine")
    elif draft.engine not in PYTHON_ENGINES:
        draft.obsolete(name, f"{draft.engine} never got it")
    else:
        setattr(draft.recipe.args, name, as_text(value))
        draft.mapped(name, f"args.{name}")


def take_trust(draft: Draft, name: str, value: Any) -> None:
    """Whether the model's own code may run; what becomes of it depends on the revision."""
    if as_switch(value):
        draft.trusts_remote_code = True
    else:
        draft.mapped(name, note="false goes without saying")


def take_parser(draft: Draft, name: str, value: Any) -> None:
    """Null was: look at the model's name; an empty text: none."""
    word = "tool_parser" if name == "tool_call_parser" else "reasoning_parser"
    if draft.engine not in PYTHON_ENGINES:
        draft.obsolete(name, f"{draft.engine} never got it")
    elif value is None and word == "reasoning_parser":
        draft.recipe.args.reasoning_parser = "auto"
        draft.changed(name, "args.reasoning_parser", "was found by the model's name; is found in the model's own files")
    elif value is None:
        draft.changed(
            name, "", "was found by the model's name; say args.tool_parser: auto to have it found in its files"
        )
    elif not (said := as_text(value)):
        draft.mapped(name, note="none goes without saying")
    else:
        spelled = PARSER_SPELLINGS[draft.engine].get(said, said)
        setattr(draft.recipe.args, word, spelled)
        note = "" if spelled == said else f"{said!r} is another engine's spelling of {spelled!r}"
        draft.renamed(name, f"args.{word}", note)


def take_served_name(draft: Draft, name: str, value: Any) -> None:
    """The name that applications used; a deployment's here."""
    del name  # reported with the deployment that it becomes
    draft.served = as_text(value) if value is not None else ""


def take_python(draft: Draft, name: str, value: Any) -> None:
    """The interpreter whose engine was started."""
    if value in (None, ""):
        draft.mapped(name, note="the host installs the engine")
    else:
        take_program(draft, name, absolute(as_text(value)).rpartition("/")[0])


def take_variables(draft: Draft, name: str, value: Any) -> None:
    """Environment variables."""
    if value is None:
        draft.mapped(name, note="none")
    else:
        take_env(draft, name, value)


def because(note: str) -> Callable[[Draft, str, Any], None]:
    """A handler for what means nothing any more, ``note`` being why."""

    def take(draft: Draft, name: str, value: Any) -> None:
        del value
        draft.obsolete(name, note)

    return take


# In the order in which they are taken: what comes later depends on the engine.
FIELDS: Mapping[str, Callable[[Draft, str, Any], None]] = {
    "backend": take_backend,
    "name": take_label,
    "model_path": take_model_path,
    "env_vars": take_variables,
    "tensor_parallel_size": take_parallel,
    "pipeline_parallel_size": take_parallel,
    "max_model_len": take_max_model_len,
    "gpu_memory_utilization": take_memory_share,
    "kv_cache_dtype": take_text,
    "max_num_seqs": take_count,
    "trust_remote_code": take_trust,
    "tool_call_parser": take_parser,
    "reasoning_parser": take_parser,
    "enable_auto_tool_choice": because("had no effect; a tool parser is what turns it on"),
    "quantization": take_text,
    "dtype": take_text,
    "host": because("the agent chooses where an engine listens: where only the gateway reaches it"),
    "port": because("the agent chooses the port; upstream overwrote it, too"),
    "served_model_name": take_served_name,
    "python_path": take_python,
    "max_thinking_tokens": because(STORED_ONLY),
    "thinking_mode": because(STORED_ONLY),
    "vision": because("the engine knows from the model whether it takes pictures"),
    "runtime": because("engines run from an environment or a program: engine.version or engine.path"),
}
# What upstream did where a recipe said nothing.
UNSAID: Mapping[str, str] = {
    "max_model_len": "upstream sent 32768 where nothing was said; now it is the model's own maximum",
    "max_num_seqs": "upstream sent 256 where nothing was said; now it is the engine's own default",
    "trust_remote_code": "upstream ran the model's own code where nothing was said; now only a recipe that says so does",
}
