"""One running system for the tests of a module that leave it as they found it."""

from collections.abc import Iterator

import pytest
from fakes.whole_system import System, running_system


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("home")) as running:
        yield running
