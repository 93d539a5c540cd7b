"""The task of a model, from its own files and from the recipe."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.driver_cases import a_recipe, some_facts
from studio_agent.engines.inquiry.model_directory import facts_at
from studio_agent.engines.model_facts import Task, facts_of, task_of


@pytest.mark.parametrize(
    ("config", "files", "task"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, (), Task.GENERATE),
        ({"architectures": ["Qwen3ForCausalLM"]}, ("modules.json",), Task.EMBED),
        ({"architectures": ["BertModel"]}, (), Task.EMBED),
        ({"architectures": ["XLMRobertaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}, (), Task.RERANK),
        ({"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 1}, (), Task.RERANK),
        ({"architectures": ["BertForSequenceClassification"]}, (), Task.CLASSIFY),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}, (), Task.CLASSIFY),
        ({}, (), Task.GENERATE),
        ({"architectures": None}, (), Task.GENERATE),
        ({"architectures": "odd"}, (), Task.GENERATE),
    ],
)  # fmt: skip
def test_the_task_of_a_model(config: dict[str, Any], files: tuple[str, ...], task: Task):
    assert facts_of(config, "", files).task is task


@pytest.mark.parametrize(
    ("extra_args", "task"),
    [
        ({"convert": "embed"}, Task.EMBED),
        ({"convert": "classify"}, Task.CLASSIFY),
        ({"is-embedding": True}, Task.EMBED),
        ({"embeddings": True}, Task.EMBED),
        ({"reranking": True, "embeddings": True}, Task.RERANK),
        ({"is-embedding": False}, Task.GENERATE),
        ({}, Task.GENERATE),
    ],
)
def test_a_recipe_may_force_the_task(extra_args: dict[str, Any], task: Task):
    assert task_of(a_recipe(extra_args=extra_args), some_facts("LlamaForCausalLM")) is task
    assert task_of(a_recipe(extra_args=extra_args), None) is task


def test_the_files_tell_where_the_recipe_does_not():
    assert task_of(a_recipe(), some_facts("BertModel", task=Task.EMBED)) is Task.EMBED


PLAIN = {"name": "default", "template": "plain"}
WITH_TOOLS = {"name": "tool_use", "template": "with tools"}


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, ""),
        ({"chat_template.jinja": "own", "tokenizer_config.json": {"chat_template": "other"}}, "own"),
        ({"chat_template.json": {"chat_template": "own"}}, "own"),
        ({"tokenizer_config.json": {"chat_template": "in the tokenizer"}}, "in the tokenizer"),
        ({"tokenizer_config.json": {"chat_template": [PLAIN, WITH_TOOLS]}}, "with tools"),
        ({"tokenizer_config.json": {"chat_template": [PLAIN]}}, "plain"),
        ({"tokenizer_config.json": "not json"}, ""),
    ],
)  # fmt: skip
def test_the_chat_template_is_where_engines_look_for_it(tmp_path: Path, files: dict[str, Any], template: str):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    facts = facts_at(str(tmp_path))
    assert facts is not None
    assert (facts.architectures, facts.chat_template) == (("LlamaForCausalLM",), template)


def test_the_files_beside_the_configuration_count(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}))
    (tmp_path / "modules.json").write_text("[]")
    facts = facts_at(str(tmp_path))
    assert facts is not None
    assert facts.task is Task.EMBED


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_damaged_directory_says_nothing(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content)
    assert facts_at(str(tmp_path)) is None


@pytest.mark.parametrize("path", ["", "Qwen/Qwen3-8B", "/nonexistent/model", "/nonexistent/model.gguf"])
def test_what_is_no_directory_says_nothing(path: str):
    assert facts_at(path) is None
