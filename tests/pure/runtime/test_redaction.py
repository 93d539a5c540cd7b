"""Secrets are kept out of log lines by their form, and by their value wherever it stands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from studio_runtime import logging as studio_logging
from studio_runtime.bearer import Bearer
from studio_runtime.errors import UnauthenticatedError
from studio_runtime.logging import MOST_HIDDEN, hide, redacted

SPEAKS = """
import structlog
from studio_runtime.logging import configure_logging, hide
configure_logging("agent")
hide("a-very-secret-value")
log = structlog.get_logger()
log.info("one", text="x a-very-secret-value y", deep={"list": ["a-very-secret-value"]}, error=ValueError("a-very-secret-value"))
try:
    raise RuntimeError("a-very-secret-value")
except RuntimeError:
    log.exception("two")
"""


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio_logging, "_hidden", {})


@pytest.mark.parametrize("prefix", ["sk-", "hf_", "vso_", "vsj_", "vsl_"])
def test_what_looks_like_a_secret_is_hidden(prefix: str) -> None:
    assert redacted(f"with {prefix}abcdefgh1234!") == f"with {prefix}…!"


def test_a_value_is_hidden_wherever_it_stands() -> None:
    hide("correct horse")
    assert redacted("say correct horse twice: correct horse") == "say … twice: …"


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    hide("on")
    assert redacted("turned on") == "turned on"


def test_the_oldest_values_are_forgotten() -> None:
    for number in range(MOST_HIDDEN + 1):
        hide(f"value-{number:05}")
    assert redacted("value-00000 value-00001") == "value-00000 …"


def test_no_line_of_a_process_holds_a_secret_that_it_knows() -> None:
    done = subprocess.run([sys.executable, "-c", SPEAKS], capture_output=True, text=True, timeout=30, check=True)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["one", "two"]
    assert "a-very-secret-value" not in done.stderr


def test_a_token_is_read_anew_for_each_call(tmp_path: Path) -> None:
    file = tmp_path / "token"
    bearer = Bearer(file)
    with pytest.raises(UnauthenticatedError, match="cannot be read"):
        bearer.metadata()
    file.write_text("one\n")
    assert bearer.metadata() == (("authorization", "Bearer one"),)
    file.write_text("two")
    assert bearer.metadata() == (("authorization", "Bearer two"),)
    for bad in ("", "two words", "schlüssel"):
        file.write_text(bad)
        with pytest.raises(UnauthenticatedError):
            bearer.metadata()
    assert Bearer().metadata() == ()
