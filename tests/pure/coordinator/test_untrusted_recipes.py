"""What no recipe may say, what only an administrator may, and which addresses are inside."""

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.engines import environ
from studio_coordinator.manifest import parse
from studio_coordinator.manifest.addresses import is_public, why_inside
from studio_coordinator.manifest.environment import DENIED, why_denied
from studio_coordinator.manifest.flag_classes import admin_only, why_admin_only

RECIPE = "kind: Recipe\nname: r\nengine: {name: vllm}\nmodel: {source: hf://a/b}\n"


def problems(more: str) -> list[str]:
    return [f"{problem.path}: {problem.message}" for problem in parse(RECIPE + more).problems]


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "ld_library_path",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PATH",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NCCL_NET_PLUGIN",
        "NCCL_TUNER_PLUGIN",
        "CUDA_INJECTION64_PATH",
        "VLLM_PLUGINS",
        "VLLM_SERVER_DEV_MODE",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "HF_ENDPOINT",
        "CUDA_VISIBLE_DEVICES",
        "STUDIO_REPLICA",
    ],
)
def test_variables_that_nobody_sets(name: str) -> None:
    assert why_denied(name)
    assert any(told.startswith(f"env.{name}: no recipe may set it") for told in problems(f"env: {{{name}: x}}\n"))
    assert any(told.startswith(f"secrets.{name}: no recipe") for told in problems(f"secrets: {{{name}: hub}}\n"))


@pytest.mark.parametrize("name", ["VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS", "HF_TOKEN", "NCCL_DEBUG", "MY_PATH"])
def test_variables_that_a_recipe_may_set(name: str) -> None:
    assert problems(f"env: {{{name}: x}}\n") == []


@pytest.mark.parametrize("pattern", environ.DENIED)
def test_what_the_agent_refuses_is_refused_before(pattern: str) -> None:
    assert why_denied(pattern.replace("*", "X")), f"{pattern} is not covered by {sorted(DENIED)}"


@pytest.mark.parametrize(
    "flag",
    [
        "trust-remote-code",
        "trust_remote_code",
        "no-trust-remote-code",
        "allowed-local-media-path",
        "tool-server",
        "tool-parser-plugin",
        "reasoning-parser-plugin",
        "worker-cls",
        "worker-extension-cls",
        "logits-processors",
        "kv-transfer-config",
        "load-format",
        "hf-overrides",
        "enable-runtime-lora-updating",
        "torch-profiler-dir",
        "profiler-config",
        "host",
        "api-key",
        "ssl-keyfile",
        "some-future-plugin",
        "another-path",
        "model-loader-extra-config",
        "json-model-override-args",
        "hf-overrides.architectures",
        "speculative-config.code_revision",
        "forward-hooks",
        "lora-modules",
        "lora-paths",
        # Parsers take the beginning of a flag for the flag.
        "trust-remote",
        "allowed-local",
        "tool-parser-pl",
        "enable-",
    ],
)
def test_flags_that_only_an_administrator_may_give(flag: str) -> None:
    assert why_admin_only(flag)


@pytest.mark.parametrize(
    "flag",
    [
        "max-num-seqs",
        "gpu-memory-utilization",
        "enable-prefix-caching",
        "no-enable-chunked-prefill",
        "block-size",
        "swap-space",
        "max-loras",
        "enable-lora",
        "kv-cache-dtype",
        "attention-backend",
        "cuda-graph-max-bs",
        "schedule-policy",
        "disable-log-requests",
        "parallel",
        "ctx-size",
        "flash-attn",
        "top-k",
        "tokenizer",
        "reasoning-parser",
        "speculative-config",
        "structured-outputs-config.backend",
    ],
)
def test_flags_that_anybody_may_give(flag: str) -> None:
    assert why_admin_only(flag) == ""


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("args: {chat_template: /etc/passwd}", "args.chat_template"),
        ("args: {chat_template: ../../x.jinja}", "args.chat_template"),
        ("args: {tokenizer: /srv/t}", "args.tokenizer"),
        ("args: {load_format: pt}", "args.load_format"),
        ("extra_args: {served-adapters: [/etc/x]}", "extra_args.served-adapters"),
        ("extra_args: {served-adapters: ['x=/etc/x']}", "extra_args.served-adapters"),
        ("extra_args: {served-adapters: 'a.gguf,../x'}", "extra_args.served-adapters"),
        ("args: {speculative: {model: /srv/draft}}", "args.speculative"),
        ("env: {VLLM_TARGET_DEVICE: /srv/x}", "env.VLLM_TARGET_DEVICE"),
    ],
)
def test_paths_outside_the_model_are_an_administrators(more: str, path: str) -> None:
    (recipe,) = parse(f"{RECIPE}{more}\n").recipes
    assert [found for found, _ in admin_only(recipe)] == [path]


@pytest.mark.parametrize(
    "inside",
    [
        {"reasoning_parser_plugin": "parser.py"},
        {"backend": "auto", "deeper": [{"worker_cls": "a.B"}]},
        {"backend": "/srv/x"},
        {"draft": {"code_revision": "main"}},
    ],
)
def test_what_is_inside_a_flag_is_judged_however_it_is_written(inside: dict[str, object]) -> None:
    for value in (inside, json.dumps(inside), [json.dumps(inside)]):
        (recipe,) = parse(f"{RECIPE}extra_args: {{structured-outputs-config: {json.dumps(value)}}}\n").recipes
        assert [path for path, _ in admin_only(recipe)] == ["extra_args.structured-outputs-config"], value


@pytest.mark.parametrize(
    "value", [{"backend": "xgrammar"}, '{"eos_token_id": 5}', "{not json", "hf://a/b", '{"model": "hf://a/b"}', "1..2"]
)
def test_what_is_harmless_inside_a_flag(value: object) -> None:
    (recipe,) = parse(f"{RECIPE}extra_args: {{structured-outputs-config: {json.dumps(value)}}}\n").recipes
    assert list(admin_only(recipe)) == []


@pytest.mark.parametrize(
    ("name", "is_anybodys"),
    [
        ("OMP_NUM_THREADS", True),
        ("VLLM_CPU_KVCACHE_SPACE", True),
        ("NCCL_DEBUG", True),
        ("PYTORCH_CUDA_ALLOC_CONF", True),
        ("PYTORCH_ALLOC_CONF", True),
        ("HF_TOKEN", True),
        ("THIRD_PARTY_KEY", True),
        ("MY_PATH", False),
        ("CC", False),
        ("TMPDIR", False),
        ("NCCL_DEBUG_FILE", False),
        ("VLLM_RPC_BASE_PATH", False),
        ("XDG_CACHE_HOME", False),
        ("TRITON_PTXAS_PATH", False),
        ("GIT_SSH_COMMAND", False),
        ("SSL_CERT_FILE", False),
    ],
)
def test_variables_outside_the_list_are_an_administrators(name: str, *, is_anybodys: bool) -> None:
    for part in (f"env: {{{name}: x}}\n", f"secrets: {{{name}: hub}}\n"):
        (recipe,) = parse(RECIPE + part).recipes
        found = [path for path, _ in admin_only(recipe)]
        assert found == ([] if is_anybodys else [f"{part.partition(':')[0]}.{name}"])


def test_an_ordinary_recipe_needs_no_administrator() -> None:
    (recipe,) = parse(RECIPE + "args: {max_model_len: 1024, dtype: bfloat16, tool_parser: hermes}\n").recipes
    assert list(admin_only(recipe)) == []


def test_remote_code_is_said_in_one_place_and_pinned() -> None:
    assert any("args.trust_remote_code" in told for told in problems("extra_args: {trust-remote-code: true}\n"))
    assert any("commit" in told for told in problems("args: {trust_remote_code: true}\n"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[fe80::1%25eth0]",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "localhost",
        "LOCALHOST.",
        "metadata.google.internal",
        "printer.local",
    ],
)
def test_addresses_that_are_inside(host: str) -> None:
    url = f"http://{host}:8000/v1"
    assert why_inside(url)
    assert any("points inside" in told for told in problems(f"env: {{A: '{url}'}}\n"))
    assert any("points inside" in told for told in problems(f"extra_args: {{a: ['x {url}']}}\n"))


@pytest.mark.parametrize("host", ["api.openai.com", "93.184.216.34", "[2606:4700::1111]", "1.1.1.1", "16843009"])
def test_addresses_that_are_outside(host: str) -> None:
    assert why_inside(f"https://{host}/v1") == ""


@given(st.integers(0, 2**32 - 1))
def test_every_form_of_an_address_is_judged_alike(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    octets = address.packed
    forms = [
        str(address),
        str(number),
        hex(number),
        ".".join(hex(octet) for octet in octets),
        ".".join(f"0{octet:o}" for octet in octets),
        f"{octets[0]}.{int.from_bytes(octets[1:])}",
        f"[::ffff:{address}]",
    ]
    verdicts = {why_inside(f"http://{form}/") == "" for form in forms}
    assert verdicts == {is_public(address)}


@given(st.text(max_size=40))
def test_no_text_breaks_the_judgement(text: str) -> None:
    why_inside(text)
    why_inside(f"http://{text}/")
