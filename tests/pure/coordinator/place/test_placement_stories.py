"""Fleets and wishes in plain text, and the plan that is expected for them."""

from pathlib import Path

import pytest
from fakes.fleet_story import read

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_plan_of_a_story_is_the_one_that_is_told(path: Path) -> None:
    story, expected = read(path)
    assert story.answer() == expected


def test_there_are_stories() -> None:
    assert len(STORIES) >= 25
