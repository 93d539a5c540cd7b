"""Of several gateway processes only the parent talks with the service manager."""

import pytest
from studio_gateway.workers import _without_service_manager


def test_workers_do_not_hear_of_the_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("KEPT", "yes")
    environment = _without_service_manager()
    assert environment["KEPT"] == "yes"
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & environment.keys()
