import json
from pathlib import Path

import pytest
from studio_cli.addresses import DEFAULT, Sources, choose, read_configuration, running_here
from studio_runtime.errors import InvalidError
from studio_runtime.settings import Address, Home

LAB = {
    "context": "lab",
    "contexts": {"lab": {"coordinator": "10.0.0.5"}, "prod": {"coordinator": "10.1.0.5:7,10.1.0.6:8"}},
}


def test_the_order_is_flag_context_environment_what_runs_here_default_context_default():
    everything = Sources("1.1.1.1:1", "2.2.2.2:2", "prod", "3.3.3.3:3", LAB)
    assert choose(everything) == [Address("1.1.1.1", 1)]
    assert choose(Sources("", "2.2.2.2:2", "prod", "3.3.3.3:3", LAB)) == [
        Address("10.1.0.5", 7),
        Address("10.1.0.6", 8),
    ]
    assert choose(Sources("", "2.2.2.2:2", "", "3.3.3.3:3", LAB)) == [Address("2.2.2.2", 2)]
    assert choose(Sources("", "", "", "3.3.3.3:3", LAB)) == [Address("3.3.3.3", 3)]
    assert choose(Sources("", "", "", "", LAB)) == [Address("10.0.0.5", 7070)]
    assert choose(Sources()) == [DEFAULT]


@pytest.mark.parametrize("text", ["host:port", "[::1", " , "])
def test_what_is_no_address_is_refused_with_how_it_is_written(text: str):
    with pytest.raises(InvalidError) as refusal:
        choose(Sources(flag=text))
    assert "HOST:PORT" in refusal.value.hint


def test_an_unknown_context_names_those_there_are():
    with pytest.raises(InvalidError) as refusal:
        choose(Sources(context="lbb", configuration=LAB))
    assert "lab, prod" in refusal.value.hint


def test_a_configuration_that_is_no_toml_is_an_error_and_none_is_not(tmp_path: Path):
    assert read_configuration(tmp_path / "absent.toml") == {}
    broken = tmp_path / "config.toml"
    broken.write_text("context = ", encoding="utf-8")
    with pytest.raises(InvalidError, match=r"config\.toml"):
        read_configuration(broken)


def test_up_json_goes_before_the_ready_file_and_broken_ones_are_passed_over(tmp_path: Path):
    home = Home(tmp_path)
    assert running_here(home) == ""
    home.run.mkdir()
    (home.run / "coordinator.json").write_text(json.dumps({"pid": 1, "address": "127.0.0.1:2"}), encoding="utf-8")
    assert running_here(home) == "127.0.0.1:2"
    home.up_file.write_text(json.dumps({"coordinator": "127.0.0.1:1"}), encoding="utf-8")
    assert running_here(home) == "127.0.0.1:1"
    home.up_file.write_text("[1]", encoding="utf-8")
    assert running_here(home) == "127.0.0.1:2"
