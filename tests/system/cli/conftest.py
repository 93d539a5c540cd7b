from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.up_system import Up


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path / "home")
    yield up
    up.clear()
