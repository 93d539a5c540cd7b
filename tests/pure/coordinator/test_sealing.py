"""Sealed values open where they were sealed, with the key that sealed them, and nowhere else."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_coordinator.sealing import KEY_BYTES, MasterKey, Sealer, SealingError

OLD, NEW = MasterKey(b"o" * KEY_BYTES), MasterKey(b"n" * KEY_BYTES)


@given(st.binary(max_size=200), st.text(max_size=30))
def test_what_is_sealed_opens_again(value: bytes, context: str) -> None:
    sealer = Sealer((OLD,))
    sealed = sealer.seal(value, context)
    assert sealer.open(sealed, context) == value
    assert len(value) < 4 or value not in sealed


def test_the_same_value_is_never_sealed_the_same() -> None:
    sealer = Sealer((OLD,))
    assert sealer.seal(b"value", "secret/hub") != sealer.seal(b"value", "secret/hub")


def test_a_row_that_is_moved_does_not_open() -> None:
    sealer = Sealer((OLD,))
    with pytest.raises(SealingError, match="belongs to another place"):
        sealer.open(sealer.seal(b"value", "secret/hub"), "secret/other")


@given(st.data())
def test_a_changed_byte_anywhere_is_noticed(data: st.DataObject) -> None:
    sealer = Sealer((OLD,))
    sealed = bytearray(sealer.seal(b"value", "secret/hub"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealingError):
        sealer.open(bytes(sealed), "secret/hub")


@given(st.binary(max_size=120))
def test_what_is_no_sealed_value_is_refused(noise: bytes) -> None:
    with pytest.raises(SealingError):
        Sealer((OLD,)).open(noise, "secret/hub")


def test_another_master_key_is_named_as_the_cause() -> None:
    sealed = Sealer((OLD,)).seal(b"value", "secret/hub")
    with pytest.raises(SealingError, match="does not have"):
        Sealer((NEW,)).open(sealed, "secret/hub")


def test_the_first_key_seals_and_every_key_opens() -> None:
    before, after = Sealer((OLD,)), Sealer((NEW, OLD))
    sealed = before.seal(b"value", "secret/hub")
    assert after.open(sealed, "secret/hub") == b"value"
    assert not after.is_current(sealed)
    again = after.seal(b"value", "secret/hub")
    assert after.is_current(again)
    with pytest.raises(SealingError):
        before.open(again, "secret/hub")


def test_the_key_is_made_once_and_readable_to_its_owner_alone(tmp_path: Path) -> None:
    first, second = Sealer.load(tmp_path), Sealer.load(tmp_path)
    assert first == second
    assert stat.S_IMODE((tmp_path / "master-key").stat().st_mode) == 0o600
    assert first.keys[0].value.hex() not in repr(first)


@pytest.mark.parametrize("content", ["", "abcd", "zz" * KEY_BYTES, "ab" * (KEY_BYTES + 1)])
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(SealingError, match="hexadecimal"):
        Sealer.load(tmp_path, file)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SealingError, match="cannot be read"):
        Sealer.load(tmp_path, tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
