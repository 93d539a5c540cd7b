"""Folders of cgroups come and go while they are read: systemd removes a unit's with its last process."""

import threading
from pathlib import Path

from studio_agent.launch import cgroup

LOOKS = 2_000


def test_a_folder_that_goes_while_it_is_read_has_no_process(tmp_path: Path) -> None:
    unit, ended = tmp_path / "unit", threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            (unit / "workers").mkdir(parents=True)
            (unit / "workers").rmdir()
            unit.rmdir()

    coming_and_going = threading.Thread(target=come_and_go)
    coming_and_going.start()
    try:
        found = [cgroup.processes(str(unit)) for _ in range(LOOKS)]
    finally:
        ended.set()
        coming_and_going.join()
    assert not any(found)
