"""``studio state accept``: nothing without being sure."""

from fakes.cli import Studio


def test_a_restored_database_is_not_accepted_without_being_sure(studio: Studio) -> None:
    said = studio("state", "accept")
    assert said.code != 0
    assert "--yes" in said.err
