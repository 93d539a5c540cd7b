"""`extra_args` against the installed engine's own list of flags."""

from typing import Any

import pytest
from fakes.driver_cases import a_recipe, launch
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flag_list import Flag, FlagList, Takes, from_llamacpp_help

KNOWN = FlagList(
    [
        Flag(("enable-chunked-prefill",), Takes.TOGGLE, "no-enable-chunked-prefill"),
        Flag(("block-size",), Takes.VALUE),
        Flag(("max-num-seqs",), Takes.VALUE),
        Flag(("middleware",), Takes.LIST),
        Flag(("language-model-only",), Takes.SWITCH),
        Flag(("warmup",), Takes.OFF_SWITCH, "no-warmup"),
        Flag(("root-path", "root-url"), Takes.VALUE),
        Flag(("host-memory-share",), Takes.VALUE),
        Flag(("profile",), Takes.OPTIONAL),
    ]
)


def words(**extra_args: Any) -> list[str]:
    named = {name.replace("_", "-"): value for name, value in extra_args.items()}
    spec = launch("vllm", a_recipe(extra_args=named), known_flags=KNOWN)
    return list(spec.argv[len(launch("vllm", a_recipe(), known_flags=KNOWN).argv) :])


@pytest.mark.parametrize(
    ("extra_args", "expected"),
    [
        ({"enable_chunked_prefill": True}, ["--enable-chunked-prefill"]),
        ({"enable_chunked_prefill": False}, ["--no-enable-chunked-prefill"]),
        ({"language_model_only": True}, ["--language-model-only"]),
        ({"language_model_only": False}, []),
        ({"warmup": True}, []),
        ({"warmup": False}, ["--no-warmup"]),
        ({"profile": True}, ["--profile"]),
        ({"profile": False}, []),
        ({"profile": "deep"}, ["--profile", "deep"]),
        ({"block_size": 16}, ["--block-size", "16"]),
        ({"block_size": -1}, ["--block-size=-1"]),
        ({"block_size": {"a": [1, 2.5]}}, ["--block-size", '{"a":[1,2.5]}']),
        ({"middleware": ["a", "b"]}, ["--middleware", "a", "b"]),
        ({"middleware": "a"}, ["--middleware", "a"]),
    ],
)
def test_a_value_of_the_right_kind_is_passed(extra_args: dict[str, Any], expected: list[str]):
    assert words(**extra_args) == expected


@pytest.mark.parametrize(
    ("extra_args", "said", "hint"),
    [
        ({"block_sze": 16}, "has no such flag", "Did you mean `block-size`?"),
        ({"zzzzzz": 16}, "has no such flag", ""),
        ({"language_model_only": "yes"}, "is a switch", ""),
        ({"enable_chunked_prefill": 1}, "is a switch", ""),
        ({"block_size": True}, "takes a value", ""),
        ({"block_size": [16]}, "not a list", ""),
        ({"root_url": "/x"}, "--root-path is set by the agent", ""),
        ({"hos": "0.0.0.0"}, "is short for --host", ""),
        ({"host_memory_share": None}, "null", "Leave the argument out to have the engine's default."),
    ],
)
def test_another_is_refused(extra_args: dict[str, Any], said: str, hint: str):
    with pytest.raises(RecipeError, match=said) as refused:
        words(**extra_args)
    assert refused.value.hint == hint
    assert refused.value.path == f"extra_args.{next(iter(extra_args)).replace('_', '-')}"


def test_the_beginning_of_an_owned_flag_is_fine_where_it_is_a_flag_itself():
    known = FlagList([Flag(("ssl",), Takes.VALUE)])
    assert launch("vllm", a_recipe(extra_args={"ssl": "off"}), known_flags=known).argv[-2:] == ("--ssl", "off")


def test_a_dash_is_taken_by_a_flag_that_is_known_to_want_a_value():
    known = FlagList([Flag(("override-tensor",), Takes.VALUE), Flag(("mlock",), Takes.SWITCH)])
    assert launch("llamacpp", a_recipe(extra_args={"override-tensor": "-x"}), known_flags=known).argv[-1] == "-x"
    with pytest.raises(RecipeError):
        launch("llamacpp", a_recipe(extra_args={"mlock": "-x"}), known_flags=known)


def test_keys_of_tabbyapi_go_where_its_own_program_has_them():
    known = FlagList([Flag(("brand-new",), Takes.VALUE, section="model")])
    (content,) = launch("tabbyapi", a_recipe(extra_args={"brand-new": 3}), known_flags=known).files.values()
    assert b'"brand_new": 3' in content


NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), min_size=1, max_size=3).map(tuple)
FLAGS = st.builds(Flag, NAMES, st.sampled_from(Takes), off=NAMES.map(lambda names: "no-" + names[0]), section=st.text())


@given(st.lists(FLAGS))
def test_a_list_survives_being_kept(flags: list[Flag]):
    assert FlagList.decode(FlagList(flags).encode()).flags == tuple(flags)


@pytest.mark.parametrize("rows", [[{}], [{"names": [], "takes": "nonsense"}], [{"names": 1, "takes": "value"}]])
def test_a_damaged_list_is_no_list(rows: list[dict[str, Any]]):
    with pytest.raises((KeyError, ValueError, TypeError)):
        FlagList.decode(rows)


# In the form in which `llama-server --help` prints.
HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
--cpu-strict <0|1>                      use strict CPU placement (default: 0)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
--no-host                               bypass host buffer allowing extra buffers to be used
--mlock                                 force system to keep model in RAM
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
--control-vector-layer-range START END
                                        layer range to apply the control vector(s) to
-cb                                     short only


----- example-specific params -----

--no-warmup                             skip warming up the model with an empty run
--host HOST                             ip address to listen
"""


def test_the_help_of_llamacpp_is_read():
    flags = from_llamacpp_help(HELP)
    assert {(flag.names, flag.takes, flag.off) for flag in flags.flags} == {
        (("help", "usage"), Takes.SWITCH, ""),
        (("threads",), Takes.VALUE, ""),
        (("cpu-strict",), Takes.VALUE, ""),
        (("flash-attn",), Takes.VALUE, ""),
        (("kv-offload",), Takes.TOGGLE, "no-kv-offload"),
        (("mlock",), Takes.SWITCH, ""),
        (("gpu-layers", "n-gpu-layers"), Takes.VALUE, ""),
        (("control-vector-layer-range",), Takes.VALUE, ""),
        (("warmup",), Takes.OFF_SWITCH, "no-warmup"),
        (("host",), Takes.VALUE, ""),
    }


@given(st.text())
def test_any_text_is_read_as_some_help(text: str):
    assert all(flag.names for flag in from_llamacpp_help(text).flags)
