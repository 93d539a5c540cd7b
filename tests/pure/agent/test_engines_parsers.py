"""Tool and reasoning parsers, by architecture and chat template alone."""

import pytest
from fakes.driver_cases import a_recipe, launch, some_facts
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.engines import tabbyapi
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.parsers import TABLE, Kind, parser_for

JSON_CALLS = '<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <args>}\\n</tool_call>'
XML_CALLS = "<tool_call>\n<function=example>\n<parameter=x>"
DEEPSEEK_CALLS = "<\uff5ctool▁calls▁begin\uff5c>"


@pytest.mark.parametrize(
    ("architecture", "template", "tool", "reasoning"),
    [
        ("Qwen3ForCausalLM", JSON_CALLS + "<think>", "hermes", "qwen3"),
        ("Qwen2ForCausalLM", JSON_CALLS, "hermes", ""),
        ("Qwen3MoeForCausalLM", XML_CALLS, "qwen3_coder", ""),
        ("Qwen3_5ForConditionalGeneration", XML_CALLS + "<think>", "qwen3_coder", "qwen3"),
        ("DeepseekV3ForCausalLM", DEEPSEEK_CALLS + "```json", "deepseek_v3", ""),
        ("DeepseekV3ForCausalLM", DEEPSEEK_CALLS + "thinking", "deepseek_v31", "deepseek_v3"),
        (
            "DeepseekV3ForCausalLM",
            DEEPSEEK_CALLS + "```json <\uff5cAssistant\uff5c><think>",
            "deepseek_v3",
            "deepseek_r1",
        ),
        ("DeepseekV3ForCausalLM", "<|tool_calls_section_begin|>", "kimi_k2", ""),
        ("DeepseekV3ForCausalLM", "<|tool_calls_section_begin|><think>", "kimi_k2", "kimi_k2"),
        ("DeepseekV32ForCausalLM", "", "deepseek_v32", "deepseek_v3"),
        ("GptOssForCausalLM", "<|channel|>", "openai", "openai_gptoss"),
        ("LlamaForCausalLM", "<|start_header_id|>ipython", "llama3_json", ""),
        ("LlamaForCausalLM", JSON_CALLS, "hermes", ""),
        ("Llama4ForConditionalGeneration", "", "llama4_pythonic", ""),
        ("MistralForCausalLM", "[TOOL_CALLS]", "mistral", ""),
        ("Mistral3ForConditionalGeneration", "[TOOL_CALLS][ARGS][THINK]", "mistral", "mistral"),
        ("Glm4MoeForCausalLM", "<tool_call>name<arg_key>arguments<think>", "glm47", "glm47"),
        ("GraniteMoeHybridForCausalLM", JSON_CALLS, "granite4", ""),
        ("NemotronHForCausalLM", XML_CALLS + "<think>", "qwen3_coder", "nemotron_v3"),
        ("MiniMaxM2ForCausalLM", "<minimax:tool_call><think>", "minimax_m2", "minimax_m2"),
    ],
)
def test_the_parsers_of_a_model(architecture: str, template: str, tool: str, reasoning: str):
    facts = some_facts(architecture, template=template)
    assert parser_for("vllm", "tool", "auto", facts) == tool
    assert parser_for("vllm", "reasoning", "auto", facts) == reasoning


def test_auto_becomes_flags_and_none_becomes_no_flag():
    recipe = a_recipe(args={"tool_parser": "auto", "reasoning_parser": "auto"})
    thinks = launch("vllm", recipe, model=some_facts("Qwen3ForCausalLM", template=JSON_CALLS + "<think>")).argv
    assert thinks[-5:] == ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
    plain = launch("vllm", recipe, model=some_facts("Qwen2ForCausalLM", template=JSON_CALLS)).argv
    assert "--reasoning-parser" not in plain


def test_a_name_is_passed_as_it_is():
    assert parser_for("vllm", "tool", "my_own", None) == "my_own"


@pytest.mark.parametrize(
    ("engine", "facts", "said"),
    [
        ("vllm", None, "needs the model's files"),
        (
            "vllm",
            some_facts("NewForCausalLM", template="<new>"),
            "no family in the table fits this model (NewForCausalLM",
        ),
        ("vllm", some_facts(), "no architecture"),
        ("tabbyapi", some_facts("Qwen2ForCausalLM", template=JSON_CALLS), "tabbyapi has no tool parser for this model"),
    ],
)
def test_what_cannot_be_resolved_is_told_with_what_there_is(engine: str, facts: object, said: str):
    with pytest.raises(RecipeError) as refused:
        parser_for(engine, "tool", "auto", facts)
    assert refused.value.path == "args.tool_parser"
    assert said in refused.value.message
    assert "qwen3_coder" in refused.value.hint


def test_every_row_is_used_and_names_what_exists():
    for kind in ("tool", "reasoning"):
        assert all(row.parser and set(row.parser) <= {"vllm", "tabbyapi"} for row in TABLE.rows(kind))
        assert all(row.architectures or row.template_has or row.template_lacks for row in TABLE.rows(kind))
    assert set(TABLE.names("tabbyapi", "reasoning")) <= set(TABLE.tabbyapi_reasoning_tags)
    assert all(len(tags) == 2 for tags in TABLE.tabbyapi_reasoning_tags.values())
    assert tabbyapi.BUNDLED_KEYS.get("tool-format") is not None


def test_no_row_is_hidden_by_one_above_it():
    for kind in ("tool", "reasoning"):
        for number, row in enumerate(TABLE.rows(kind)):
            template = " ".join(row.template_has)
            architectures = row.architectures or ("AnyForCausalLM",)
            first = [
                next(each for each in TABLE.rows(kind) if each.fits(some_facts(name, template=template)))
                for name in architectures
            ]
            assert row in first, (kind, number, row.family)


@given(st.sampled_from(["vllm", "tabbyapi"]), st.sampled_from(["tool", "reasoning"]), st.lists(st.text()), st.text())
def test_any_model_has_a_parser_or_an_answer(engine: str, kind: Kind, architectures: list[str], template: str):
    try:
        name = parser_for(engine, kind, "auto", some_facts(*architectures, template=template))
    except RecipeError as refused:
        name = refused.hint
    assert name in ("", *TABLE.names(engine, kind)) or name.startswith("This engine has: ")
