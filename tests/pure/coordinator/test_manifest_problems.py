"""Everything that is wrong with a manifest is reported at once, with its document, path and line."""

import pytest
from studio_coordinator.manifest import parse
from studio_coordinator.manifest.kinds import EXPECTED

Problem = tuple[int, int, str, str]

MALFORMED = """\
kind: Recipe
name: -bad
model: {source: "hf:/x", revison: abc}
engine: {name: vlm, version: 0.33, path: opt/vllm}
args:
  max_model_len: lots
  tensor_paralel: 2
  pipeline_parallel: 99999999999
  kv_cache_memory: 12 parsecs
  trust_remote_code: maybe
  seed: 1.5
  demo: {tokens_per_second: -1, exit_code: 256, health_lie: perhaps}
extra_args: {--flag: 1, big: 123456789012345678901}
env: {1A: x, A: [1]}
resources: {gpu: {count: -1, share: 150%, memory: 0, model: H100}}
lora: [{name: a}, {name: a, source: hf://a/b}]
preset: fast
preset: slow
labels: [a]
---
kind: Deployment
name: chat
aliases: [chat, a b, a b]
recipe: qwen
replicas: {min: 5, max: 2000}
placement: {spread: everywhere, anti_affinity: [chat]}
idle: {sleep_after: 10m, stop_after: 5m}
rollout: {surge: 0, canary: {share: 0, for: soon}, on_failure: panic}
drain: {deadline: -3s}
via: pigeon
"""


def problems(text: str) -> list[Problem]:
    return [(item.document, item.line, item.path, item.message) for item in parse(text).problems]


def test_a_malformed_manifest_shows_all_of_it_at_once():
    found = problems(MALFORMED)
    assert [(document, line, path) for document, line, path, _ in found] == [
        (1, 2, "name"),
        (1, 3, "model.revison"),
        (1, 3, "model.source"),
        (1, 4, "engine.name"),
        (1, 4, "engine.path"),
        (1, 4, "engine.path"),
        (1, 6, "args.max_model_len"),
        (1, 7, "args.tensor_paralel"),
        (1, 8, "args.pipeline_parallel"),
        (1, 9, "args.kv_cache_memory"),
        (1, 10, "args.trust_remote_code"),
        (1, 11, "args.seed"),
        (1, 12, "args.demo"),
        (1, 12, "args.demo.tokens_per_second"),
        (1, 12, "args.demo.exit_code"),
        (1, 12, "args.demo.health_lie"),
        (1, 13, "extra_args.big"),
        (1, 13, "extra_args.--flag"),
        (1, 14, "env.A"),
        (1, 14, "env.1A"),
        (1, 15, "resources.gpu.model"),
        (1, 15, "resources.gpu.count"),
        (1, 15, "resources.gpu.memory"),
        (1, 15, "resources.gpu.share"),
        (1, 16, "lora[0].source"),
        (1, 16, "lora[1].name"),
        (1, 18, "preset"),
        (1, 19, "labels"),
        (2, 23, "aliases[0]"),
        (2, 23, "aliases[1]"),
        (2, 23, "aliases[2]"),
        (2, 23, "aliases[2]"),
        (2, 25, "replicas.max"),
        (2, 26, "placement.spread"),
        (2, 26, "placement.anti_affinity"),
        (2, 27, "idle.stop_after"),
        (2, 28, "rollout.canary.for"),
        (2, 28, "rollout.surge"),
        (2, 28, "rollout.canary.share"),
        (2, 28, "rollout.on_failure"),
        (2, 29, "drain.deadline"),
        (2, 30, "via"),
    ]


SOURCE = "hf://OWNER/NAME or path:///ABSOLUTE/DIRECTORY"
SIZE = "a size such as 24GiB, 512MiB, 80GB, or a number of bytes"
DURATION = "a duration such as 45s, 10m, 1h30m, or a number of seconds"
ENGINES = "choose one of vllm, sglang, tabbyapi, llamacpp, demo"
NAME = "at most 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
DEMO = "kind: Recipe\nname: a\nengine: {name: demo}\n"
VLLM = "kind: Recipe\nname: a\nengine: {name: vllm}\nmodel: {source: hf://a/b}\n"
CHAT = "kind: Deployment\nname: chat\nrecipe: a\n"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (DEMO + "argz: {}", "argz", "unknown field; did you mean args?"),
        (DEMO + "<<: {name: b}", "<<", "merge keys are not read; write the fields out"),
        (DEMO + "name: b", "name", "given twice; first in line 2"),
        (DEMO + "args: 5", "args", "expected fields, got '5'"),
        (DEMO + "args: {demo: {ignore_sigterm: 2}}", "args.demo.ignore_sigterm", "expected true or false, got '2'"),
        (DEMO + "args: {demo: {load_seconds: nan}}", "args.demo.load_seconds", "expected a number, got 'nan'"),
        (DEMO + "args: {demo: {load_seconds: 1e999}}", "args.demo.load_seconds", "expected a number, got '1e999'"),
        (DEMO + "args: {max_num_seqs: []}", "args.max_num_seqs", "expected a whole number, got a list"),
        (DEMO + "args: {max_num_seqs: 0}", "args.max_num_seqs", "0 is less than 1"),
        (DEMO + "args: {max_model_len: 0}", "args.max_model_len", "0 is less than 1"),
        (
            DEMO + "args: {kv_cache_memory: 0.3B}",
            "args.kv_cache_memory",
            f"expected {SIZE}, whole and less than 8 EiB, got '0.3B'",
        ),
        (
            DEMO + "resources: {gpu: {memory: [1]}}",
            "resources.gpu.memory",
            f"expected auto or {SIZE}, got a list",
        ),
        (DEMO + "resources: {hosts: 0}", "resources.hosts", "0 is not between 1 and 64"),
        (
            "kind: Recipe\nname: a\nengine: {name: llamacpp}\nmodel: {source: hf://a/b}\nresources: {hosts: 2}",
            "resources.hosts",
            "llamacpp runs on one host; vllm and sglang can span",
        ),
        (
            DEMO + "resources: {hosts: 2, gpu: {count: 1, share: 50%}}",
            "resources.gpu.share",
            "a replica over several hosts has its GPUs for itself",
        ),
        (
            DEMO + "args: {data_parallel: 2}\nresources: {hosts: 2}",
            "args.data_parallel",
            "a replica over several hosts is one copy of the model; have more replicas instead",
        ),
        (
            DEMO + "args: {tensor_parallel: 8, pipeline_parallel: 4}\nresources: {hosts: 2, gpu: {count: 8}}",
            "resources.hosts",
            "2 hosts with 8 GPUs each cannot be shared by 32 parts of the model",
        ),
        (
            DEMO + "args: {tensor_parallel: 4, pipeline_parallel: 2}\nresources: {hosts: 2, gpu: {count: 8}}",
            "resources.hosts",
            "2 hosts with 8 GPUs each, but the parallel sizes in args make 8 parts",
        ),
        (
            DEMO + "args: {tensor_parallel: 3, pipeline_parallel: 1}\nresources: {hosts: 2}",
            "resources.hosts",
            "3 parts of the model cannot be shared evenly by 2 hosts",
        ),
        (DEMO + "resources: {gpu: {share: much}}", "resources.gpu.share", "expected a share such as 20% or 0.2, got 'much'"),
        (
            DEMO + "resources: {gpu: {share: 50%, count: 2}}",
            "resources.gpu.share",
            "a share is a part of one GPU, but count is 2",
        ),
        (
            DEMO + "args: {tensor_parallel: 2, pipeline_parallel: 2}\nresources: {gpu: {count: 2}}",
            "resources.gpu.count",
            "the parallel sizes in args need 4 GPUs, but count is 2",
        ),
        (DEMO + 'env: {A: "\\0"}', "env.A", "the text holds a NUL or half a character"),
        (DEMO + 'env: {"\\0": a}', "env", "a key holds a NUL or half a character"),
        (DEMO + "args: {speculative: {k: 1}}", "args.speculative", "only vllm and sglang can decode speculatively, not demo"),
        (DEMO + "lora: [1]", "lora[0]", "expected fields, got '1'"),
        (VLLM + "args: {demo: {}}", "args.demo", "these settings are for the demo engine, not for vllm"),
        (
            VLLM + "args: {trust_remote_code: true}",
            "model.revision",
            "args.trust_remote_code runs the model's own code, so it must be pinned to a commit (40 hexadecimal digits)",
        ),
        (VLLM.replace("vllm", "vlm"), "engine.name", f"'vlm' is not known: {ENGINES}; did you mean vllm?"),
        (VLLM.replace("{name: vllm}", "{}"), "engine.name", f"missing; {ENGINES}"),
        (VLLM.replace("hf://a/b", "a/b"), "model.source", f"expected {SOURCE}, got 'a/b'"),
        (VLLM.replace("hf://a/b", "path:///srv/../etc"), "model.source", f"expected {SOURCE}, got 'path:///srv/../etc'"),
        (VLLM.replace("hf://a/b", ""), "model.source", f"missing; expected {SOURCE}"),
        (CHAT + "idle: {stop_after: 99999999h}", "idle.stop_after", f"expected {DURATION}, at most ten years, got '99999999h'"),
        (CHAT + "idle: {stop_after: 1h later}", "idle.stop_after", f"expected {DURATION}, got '1h later'"),
        (CHAT + "replicas: {max: 0}", "replicas.max", "0 is less than min, which is 1"),
        (CHAT + "recipe_revision: -1", "recipe_revision", "-1 is less than 0"),
        (CHAT + "rollout: {surge: 0}", "rollout.surge", "with 0 nothing can be replaced, unless drain_first_allowed is true"),
        (CHAT.replace("recipe: a", ""), "recipe", "missing"),
        (CHAT.replace("chat", "c/d"), "name", f"'c/d' is not a name: {NAME}"),
    ],
)  # fmt: skip
def test_one_problem(text: str, path: str, message: str):
    assert [(found_path, found) for _, _, found_path, found in problems(text)] == [(path, message)]


@pytest.mark.parametrize(
    "text",
    [
        DEMO,
        VLLM,
        CHAT,
        CHAT + "aliases: ['openai/gpt-5', 'llama3:8b']",
        CHAT + "replicas: {min: 0, max: 0}",
        CHAT + "rollout: {surge: 0, drain_first_allowed: true}",
        DEMO + "resources: {gpu: {count: 0}}\nargs: {tensor_parallel: 2}",
        DEMO + "resources: {gpu: {count: auto, share: 100%}}",
        DEMO + "args: {demo: {exit_code: 0, load_seconds: 0}}",
        VLLM.replace("hf://a/b", "path:///srv/models/a b/c..d"),
        VLLM.replace("}\n", ", path: /opt/vllm/bin/vllm}\n", 1),
        VLLM.replace("hf://a/b", f"hf://a/b, revision: {'0' * 40}") + "args: {trust_remote_code: true}",
        DEMO + "args:\nresources: ~\nmodel: null\n",
    ],
)
def test_no_problem(text: str):
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (1, 1, "", "the manifest is empty")),
        ("---\n...\n# nothing\n", (1, 1, "", "the manifest is empty")),
        (
            "kind: Recipes\n",
            (
                1,
                1,
                "kind",
                f"'Recipes' is not known: expected {EXPECTED}; did you mean Recipe?",
            ),
        ),
        ("name: a\n", (1, 1, "kind", f"missing: expected {EXPECTED}")),
        ("kind: [Recipe]\n", (1, 1, "kind", f"missing: expected {EXPECTED}")),
        (
            "- a\n",
            (1, 1, "", f"expected fields, beginning with kind: {EXPECTED}"),
        ),
        ("a: [1, 2\nb: }", (1, 2, "", "not YAML: while parsing a flow sequence, did not find expected ',' or ']'")),
        ("? [a, b]\n: c", (1, 1, "", "a key must be a plain text")),
        ("a: &x [*x]", (1, 1, "", "the alias *x stands for nothing that is complete before it")),
        (
            "a: !!python/object:os.system x",
            (1, 1, "", "the tag tag:yaml.org,2002:python/object:os.system is not allowed"),
        ),
        ("- " * 40 + "a", (1, 1, "", "nested more than 32 deep")),
        (
            "a\x07b",
            (1, 1, "", "the text holds a character that YAML does not allow: control characters are not allowed"),
        ),
    ],
)
def test_texts_that_cannot_be_read(text: str, expected: Problem):
    assert problems(text) == [expected]


def test_what_comes_before_a_syntax_error_is_still_checked():
    found = problems(DEMO + "argz: 1\n---\nkind: Recipe\nname: [\n")
    assert [(document, path) for document, _, path, _ in found] == [(1, "argz"), (2, "")]


def test_names_are_given_once_in_a_manifest():
    text = "---\n".join([DEMO, DEMO, CHAT + "aliases: [x]\n", CHAT, CHAT.replace("chat", "x")])
    assert [(document, path, message) for document, _, path, message in problems(text)] == [
        (2, "name", "document 1 gives the recipe 'a' already"),
        (4, "name", "document 3 gives the public model name 'chat' already"),
        (5, "name", "document 3 gives the public model name 'x' already"),
    ]


def test_a_recipe_and_a_deployment_may_have_one_name():
    assert problems(f"{DEMO}---\n{CHAT.replace('chat', 'a')}") == []


class TestBounds:
    def test_size(self):
        assert [message for *_, message in problems("#" * 2_000_000)] == [
            "the manifest has 2,000,000 characters, more than the 1,048,576 that are read"
        ]

    def test_aliases_that_multiply(self):
        rows = ["a0: &a0 [" + ",".join("1" * 10) + "]"]
        rows += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 30)]
        assert [message for *_, message in problems("\n".join(rows))] == [
            "the manifest has more than 100,000 values once its aliases are written out"
        ]

    def test_aliases_that_multiply_over_documents(self):
        document = "a: &a [" + ",".join("1" * 100) + "]\nb: [" + ",".join(["*a"] * 100) + "]\n"
        assert "more than 100,000 values" in problems("---\n".join([document] * 20))[-1][3]

    @pytest.mark.parametrize("text", ["[" * 500_000, "{a: " * 200_000, "- " * 500_000, "? " * 500_000, "&a " * 300_000])
    def test_depth(self, text: str):
        assert len(problems(text)) == 1
