"""Contexts are written as they are read, and a token goes only to the coordinator that it is for."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_cli.contexts import as_toml, with_context
from studio_cli.credentials import bearer_for, is_loopback
from studio_runtime.errors import InvalidError
from studio_runtime.settings import Address

TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, TEXTS, max_size=3), max_size=3))
def test_what_is_written_is_read_again(contexts: dict[str, dict[str, str]]) -> None:
    configuration = {"context": "lab", "contexts": contexts}
    read = tomllib.loads(as_toml(configuration))
    assert read.get("contexts", {}) == contexts
    assert read["context"] == "lab"


def test_a_context_takes_the_place_of_one_with_its_name_and_is_the_default() -> None:
    before = {"contexts": {"lab": {"coordinator": "old:1", "ca_file": "x"}, "home": {"coordinator": "h:1"}}}
    after = with_context(before, "lab", {"coordinator": "new:1", "ca_file": ""})
    assert after["context"] == "lab"
    assert after["contexts"] == {"lab": {"coordinator": "new:1"}, "home": {"coordinator": "h:1"}}


def test_what_would_be_lost_is_not_written() -> None:
    with pytest.raises(InvalidError, match="would be lost"):
        as_toml({"timeout": 3})
    with pytest.raises(InvalidError):
        with_context({}, "a b", {})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STUDIO_COORDINATOR", "STUDIO_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    file = tmp_path / "vllm-studio" / "config.toml"
    file.parent.mkdir()
    file.write_text('context = "lab"\n[contexts.lab]\ncoordinator = "c:1"\ntoken_file = "/lab.token"\n')
    return file


@pytest.mark.usefixtures("config")
def test_the_contexts_token_goes_with_the_context_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [Address("c", 1)]
    assert bearer_for("", "", at).file == Path("/lab.token")
    assert bearer_for("", "lab", at).file == Path("/lab.token")
    assert bearer_for("other:1", "", [Address("other", 1)]).file is None
    monkeypatch.setenv("STUDIO_COORDINATOR", "other:1")
    assert bearer_for("", "", [Address("other", 1)]).file is None
    monkeypatch.setenv("STUDIO_TOKEN_FILE", "/mine")
    assert bearer_for("", "", at).file == Path("/mine")


def test_the_local_token_goes_to_the_system_that_runs_here_alone(config: Path) -> None:
    home = config.parent.parent / "home"
    (home / "coordinator").mkdir(parents=True)
    (home / "coordinator" / "local-token").write_text("x")
    (home / "up.json").write_text('{"coordinator": "127.0.0.1:7070"}')
    assert bearer_for("", "", [Address("127.0.0.1", 7070)]).file == home / "coordinator" / "local-token"
    assert bearer_for("127.0.0.1:7071", "", [Address("127.0.0.1", 7071)]).file is None


@pytest.mark.parametrize(
    ("host", "is_it"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)]
)
def test_what_is_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("localhost.example")
