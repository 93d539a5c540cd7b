"""Which files are wanted, how long a hub is waited for, what a source and a listing may say, what the child is heard to say."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.models.digests import is_sound
from studio_agent.models.errors import (
    BY_REASON,
    ModelDiskError,
    ModelMissingError,
    PullBrokenOffError,
)
from studio_agent.models.folders import Listing, ModelFile, RepositoryFolder, repositories
from studio_agent.models.selection import UnknownVariantError, wanted
from studio_agent.models.source import check_local, local_directory, repository_of
from studio_agent.models.voice import PullProgress, heard_failure, heard_progress
from studio_agent.models.waits import LONGEST_ASKED_SECONDS, LONGEST_OWN_SECONDS, asked_seconds, next_wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_same_weights_are_fetched_once():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    small = ["config.json", "tokenizer.model", "README.md"]
    doubles = ["pytorch_model.bin", "original/consolidated.00.pth", "onnx/model.onnx", "tf_model.h5"]
    assert wanted([".gitattributes", *small, *shards, *doubles]) == [*small, *shards]


def test_of_gguf_one_quantization_is_fetched():
    shards = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]
    files = [
        "README.md",
        "config.json",
        "m-Q4_K_M.gguf",
        "m-IQ4_K_M.gguf",
        *shards,
        "BF16/m-BF16.gguf",
        "mmproj-BF16.gguf",
    ]
    assert wanted(files) == ["m-Q4_K_M.gguf"]
    assert wanted(files, "q8_0") == shards
    assert wanted(files, "BF16") == ["BF16/m-BF16.gguf"]
    assert wanted(["b-F16.gguf", "a-F32-00001-of-00002.gguf", "a-F32-00002-of-00002.gguf"]) == [
        "a-F32-00001-of-00002.gguf",
        "a-F32-00002-of-00002.gguf",
    ]
    with pytest.raises(UnknownVariantError, match="m-Q4_K_M, m-Q8_0"):
        wanted(files, "Q2_K")


def test_what_has_no_safetensors_is_fetched_as_it_is():
    files = ["config.json", "pytorch_model.bin", "adapter/adapter_model.safetensors"]
    assert wanted(files) == files


@given(st.integers(1, 30), st.integers(1, 20), st.floats(0, 2000))
def test_a_wait_is_at_least_what_was_asked_and_never_endless(failures: int, most: int, asked: float):
    wait = next_wait(failures, most, asked)
    if wait is None:
        assert failures >= most or asked > LONGEST_ASKED_SECONDS
    else:
        assert asked <= wait <= max(asked, LONGEST_OWN_SECONDS)


def test_retry_after_as_seconds_as_date_and_as_nonsense():
    assert asked_seconds("7", NOW) == 7
    assert asked_seconds(format_datetime(NOW + timedelta(seconds=90), usegmt=True), NOW) == 90
    assert asked_seconds(format_datetime(NOW - timedelta(seconds=90), usegmt=True), NOW) == 0
    assert asked_seconds("soon", NOW) == asked_seconds("", NOW) == 0


def test_sources():
    assert repository_of("hf://Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert repository_of("hf://lab/m-GGUF:Q4_K_M") == "lab/m-GGUF:Q4_K_M"
    assert local_directory("path:///srv/m") == Path("/srv/m")
    assert local_directory("hf://a/b") is None
    for source in (
        "hf://Qwen",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/..",
        "hf://a--b/c",
        "hf://a/b?x",
        "Qwen/Qwen3-8B",
        "",
    ):
        with pytest.raises(ModelMissingError):
            repository_of(source)


def test_local_directories(tmp_path: Path):
    for folder, said in (
        (tmp_path / "none", "no directory"),
        (tmp_path, "no config"),
        (Path("models"), "not absolute"),
    ):
        with pytest.raises(ModelMissingError, match=said):
            check_local(folder)
    (tmp_path / "config.json").touch()
    check_local(tmp_path)
    (tmp_path / "m.gguf").touch()
    check_local(tmp_path / "m.gguf")
    with pytest.raises(ModelMissingError):
        check_local(tmp_path / "none.gguf")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", ".studio/complete", "a\0b"])
def test_a_listing_cannot_lead_out_of_its_folder(path: str):
    with pytest.raises(ValueError, match="no path"):
        ModelFile(path, 1, "git:0")


def test_digests_are_those_of_git_and_of_large_files(tmp_path: Path):
    file = tmp_path / "hello"
    file.write_bytes(b"hello world\n")
    # As `git hash-object` and `sha256sum` print them.
    assert is_sound(file, "git:3b18e512dba79e4c8300dd08aeb37f8e728b8dad")
    assert is_sound(file, "sha256:a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447")
    file.write_bytes(b"hello world!")
    assert not is_sound(file, "git:3b18e512dba79e4c8300dd08aeb37f8e728b8dad")


def test_a_revision_is_complete_only_with_marker_and_every_file(tmp_path: Path):
    repository = RepositoryFolder.of(tmp_path, "lab/tiny")
    folder = repository.revision("a" * 40)
    file = ModelFile("sub/config.json", 2, "git:0")
    listing = Listing("a" * 40, (file,))
    folder.store(listing)
    assert (folder.listing(), folder.bytes_done(listing), folder.is_complete(listing)) == (listing, 0, False)
    folder.part(file).parent.mkdir(parents=True)
    folder.part(file).write_bytes(b"{")
    assert folder.bytes_done(listing) == 1
    folder.whole(file).parent.mkdir()
    folder.whole(file).write_bytes(b"{}")
    assert (folder.bytes_done(listing), folder.is_complete(listing)) == (2, False)
    folder.mark_complete()
    assert folder.is_complete(listing)
    folder.whole(file).write_bytes(b"")
    assert not folder.is_complete(listing)
    RepositoryFolder.of(tmp_path, "lab/tiny:Q8_0").root.mkdir()
    assert [(one.repository, one.variant, one.source) for one in repositories(tmp_path)] == [
        ("lab/tiny", "", "hf://lab/tiny"),
        ("lab/tiny", "Q8_0", "hf://lab/tiny:Q8_0"),
    ]


def test_refs_survive_damage(tmp_path: Path):
    repository = RepositoryFolder.of(tmp_path, "lab/tiny")
    repository.store_ref("main", "b" * 40)
    assert repository.commit_of("main") == "b" * 40
    assert repository.commit_of("c" * 40) == "c" * 40
    (repository.root / "refs.json").write_text('{"main": "../../etc"}')
    assert repository.commit_of("main") == ""
    (repository.root / "refs.json").write_text("[")
    assert repository.commit_of("main") == ""


def test_what_the_child_says_is_heard():
    line = '{"progress": {"commit": "c", "bytes_done": 1, "bytes_total": 4, "note": "n"}}'
    assert heard_progress(line) == PullProgress("c", 1, 4, "n")
    assert PullProgress("c", 1, 4).share == 0.25
    assert PullProgress().share is None
    for other in ("", "Traceback", "{}", '{"progress": {"more": 1}}', '{"failed": {}}'):
        assert heard_progress(other) is None
    failed = '{"failed": {"reason": "disk", "message": "full", "hint": "free"}}'
    error = heard_failure([line, failed, "a word of the library"])
    assert (type(error), error.message, error.hint) == (ModelDiskError, "full", "free")
    assert isinstance(heard_failure([line, "MemoryError"]), PullBrokenOffError)
    assert "MemoryError" in heard_failure([line, "MemoryError"]).message


def test_every_error_of_the_child_comes_back_as_itself():
    assert all(kind.reason == reason for reason, kind in BY_REASON.items())
