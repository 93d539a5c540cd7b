"""Options in a file: as if they stood where the file is named."""

import argparse
from pathlib import Path

import pytest
from studio_gateway.options_file import OPTION, OptionsFile, words_in


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--workers", type=int, default="7")
    made.add_argument("--listen", default="here")
    made.add_argument(OPTION, action=OptionsFile)
    return made


def test_words_are_split_as_a_shell_does(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("# Written by somebody.\n--listen 'a b'  # where\n--workers\n3\n")
    assert words_in(file) == ["--listen", "a b", "--workers", "3"]


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert parser().parse_args([OPTION, str(tmp_path / "none")]).workers == 7


@pytest.mark.parametrize(
    ("before", "after", "workers"), [(["--workers", "1"], [], 3), ([], ["--workers", "1"], 1), ([], [], 3)]
)
def test_the_later_word_counts(tmp_path: Path, before: list[str], after: list[str], workers: int) -> None:
    file = tmp_path / "options"
    file.write_text("--workers 3")
    found = parser().parse_args([*before, OPTION, str(file), *after])
    assert (found.workers, found.listen) == (workers, "here")


@pytest.mark.parametrize("text", ["--no-such-option", "--workers many", "--listen 'open", f"{OPTION} another"])
def test_what_is_wrong_with_them_ends_the_process_with_a_sentence(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([OPTION, str(file)])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
