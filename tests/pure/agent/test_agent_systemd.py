"""The systemd launcher's pure parts: names of instances, specs, what systemctl says, and when the watchdog is fed."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.launch.engine_spec import EngineSpec, spec_path
from studio_agent.launch.systemctl import UnitStatus, parse_show
from studio_agent.launch.systemd import remove_specs
from studio_runtime.watchdog import Watchdog

FOLDER = Path("/run/specs")
RULES = Path(__file__).parents[3] / "systemd/50-vllm-studio.rules"

TWO_UNITS = """\
MainPID=0
ExecMainPID=71
ExecMainCode=2
ExecMainStatus=11
Id=studio-engine@demo-1.1.aa.service
ActiveState=failed
InvocationID=8f0c

MainPID=80
ExecMainPID=80
ExecMainCode=0
ExecMainStatus=0
Id=studio-engine@demo-2.1.bb.service
ActiveState=active
InvocationID=91aa
"""


@given(st.text(max_size=40))
def test_no_instance_leads_out_of_the_folder(instance: str) -> None:
    try:
        path = spec_path(instance, FOLDER)
    except ValueError:
        return
    assert path.parent == FOLDER
    assert path.resolve().parent == FOLDER


def test_specs_of_engines_that_do_not_run_are_removed(tmp_path: Path) -> None:
    for name in ("demo-1.1.aa", "demo-1.2.bb", "demo-2.1.cc"):
        (tmp_path / f"{name}.json").write_text("{}")
    remove_specs(tmp_path, {"demo-1.2.bb"})
    assert [path.name for path in tmp_path.iterdir()] == ["demo-1.2.bb.json"]


@given(st.text(alphabet="aZ0_.:-/%\\ \n@", max_size=12))
def test_the_agent_starts_what_the_polkit_rule_allows(instance: str) -> None:
    found = re.search(r"var ours = /(.+)/;", RULES.read_text())
    assert found is not None
    # A dollar in JavaScript does not match before a line's end, as Python's does.
    allowed = re.fullmatch(found[1].strip("^$"), f"studio-engine@{instance}.service")
    try:
        spec_path(instance)
    except ValueError:
        assert allowed is None
    else:
        assert allowed is not None


@pytest.mark.parametrize("name", ["demo-1.1.0a1b2c3d4e5f", "a", "llama3:8b-2.17.ff"])
def test_tokens_are_instances(name: str) -> None:
    assert spec_path(name, FOLDER) == FOLDER / f"{name}.json"


@given(
    argv=st.lists(st.text(), min_size=1),
    env=st.dictionaries(st.text(), st.text()),
)
def test_a_spec_arrives_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, argv: list[str], env: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "spec.json"
    spec = EngineSpec(argv, env, "/log", "/cwd")
    path.write_bytes(spec.encode())
    assert EngineSpec.read(path) == spec


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"argv": []}', '{"argv": ["x"]}', '{"argv": ["x"], "more": 1}', "{"])
def test_what_is_no_spec_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"spec|Expecting"):
        EngineSpec.read(path)


def test_what_systemctl_shows_is_read() -> None:
    assert parse_show(TWO_UNITS) == {
        "studio-engine@demo-1.1.aa.service": UnitStatus("8f0c", "failed", 0, 71, -11),
        "studio-engine@demo-2.1.bb.service": UnitStatus("91aa", "active", 80, 80, None),
    }
    assert parse_show("") == {}


def test_an_exit_code_is_told_from_a_signal() -> None:
    exited = TWO_UNITS.replace("ExecMainCode=2", "ExecMainCode=1")
    assert parse_show(exited)["studio-engine@demo-1.1.aa.service"].exit_code == 11


def test_the_watchdog_is_fed_four_times_in_its_interval_however_fast_the_loop_is() -> None:
    sent: list[str] = []
    watchdog = Watchdog({"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(os.getpid())}, sent.append)
    for beat in range(81):
        watchdog.beat(100 + beat / 10)
    assert sent == ["WATCHDOG=1"] * 5


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getppid())}]
)
def test_no_watchdog_is_fed_where_none_was_asked_for(environment: dict[str, str]) -> None:
    sent: list[str] = []
    Watchdog(environment, sent.append).beat(100.0)
    assert sent == []
