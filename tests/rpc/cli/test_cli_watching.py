"""Commands that go on, typed in processes of their own: on a pipe and on a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from fakes.admin import Fleet
from fakes.cli import Studio
from studio.v1.event_pb2 import Event

PATIENCE_SECONDS = 20


def watching(*words: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-m", "studio_cli", *words),
        text=True,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE} | options,
    )


def lines_until(process: subprocess.Popen[str], enough: Callable[[str], bool]) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if enough(line):
            return lines
    raise AssertionError(f"it ended too early: {lines}")


def interrupt(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode


def test_ps_on_a_pipe_writes_what_changes_once(studio: Studio, manifest: str):
    studio("apply", "-f", manifest)
    with watching("ps", "-w") as process:
        lines = lines_until(process, lambda line: "READY" in line)
        assert interrupt(process) == 130
    assert [line.split()[0] for line in lines].count("NAME") == 1
    assert [line.split()[5] for line in lines[1:]] == ["PENDING", "STARTING", "READY"]


def test_ps_as_json_on_a_pipe_is_one_object_a_line(studio: Studio, manifest: str):
    studio("apply", "-f", manifest)
    with watching("ps", "-w", "-o", "json") as process:
        lines = lines_until(process, lambda line: "READY" in line)
        assert interrupt(process) == 130
    assert [json.loads(line)["state"] for line in lines] == ["PENDING", "STARTING", "READY"]


def event(sequence: int, message: str) -> Event:
    happened = Event(sequence=sequence, kind="replica.ready", replica="chat-1", message=message)
    happened.at.GetCurrentTime()
    return happened


def test_events_go_on_after_the_last_one_when_the_stream_ends(studio: Studio, fleet: Fleet):
    assert studio("events").code == 0
    with watching("events", "--watch") as process:
        lines = lines_until(process, lambda line: "died" in line)
        fleet.events.append(event(3, "the third"))
        lines += lines_until(process, lambda line: "third" in line)
        fleet.events.append(event(4, "the fourth"))
        lines += lines_until(process, lambda line: "fourth" in line)
        assert interrupt(process) == 130
    assert len(lines) == 4
    assert [request.after_sequence for request in fleet.asked("WatchEvents")][:1] == [2]


def screen(words: tuple[str, ...], enough: Callable[[str], bool], **environment: str) -> str:
    """What a command writes on a terminal until that is enough."""
    master, slave = pty.openpty()
    with watching(*words, stdout=slave, env=os.environ | {"TERM": "xterm-256color"} | environment) as process:
        os.close(slave)
        shown = ""
        while not enough(shown):
            shown += os.read(master, 4096).decode()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
    os.close(master)
    return shown


def test_ps_on_a_terminal_keeps_one_picture(studio: Studio, manifest: str):
    studio("apply", "-f", manifest)
    shown = screen(("ps", "-w"), lambda text: "READY" in text)
    assert "STARTING" in shown
    # The picture is drawn over itself.
    assert "\x1b[" in shown.partition("STARTING")[2]


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_that_want_it(
    studio: Studio, manifest: str, environment: dict[str, str], coloured: bool
):
    studio("apply", "-f", manifest, "--wait")
    shown = screen(("ps",), lambda text: "READY" in text, **environment)
    assert ("\x1b[32m" in shown) is coloured
    assert "\x1b" not in studio("ps").out


@pytest.mark.usefixtures("studio")
def test_apply_on_a_terminal_waits_by_itself(manifest: str):
    shown = screen(("apply", "-f", manifest), lambda text: "ready on lab-1" in text)
    assert "deployment chat created" in shown


@pytest.mark.usefixtures("studio")
def test_output_into_a_closed_pipe_is_no_traceback():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with watching("events", stdout=write_end) as process:
        os.close(write_end)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in err
    assert "Error" not in err
