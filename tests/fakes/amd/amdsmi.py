"""Stands in for AMD's binding of the same name in a process that has this folder on its path; see `fakes.amd.FakeAmd`.

Functions, arguments, keys of what they return and exceptions are those of amdsmi 7.0.2. Answers come from a JSON file,
read at every call: ``{"init": ERROR, "missing": [FUNCTION], "gpus": [{FUNCTION: ANSWER}]}``. A function without an answer
is not supported; where a function is asked for a kind of something, its key is ``FUNCTION KIND``.
"""

import json
import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

NOT_SUPPORTED = 2


class AmdSmiLibraryException(Exception):  # noqa: N818 - its name
    def __init__(self, err_code: int) -> None:
        super().__init__(err_code)
        self.err_code = err_code

    def __str__(self) -> str:
        return f"Error code:\n\t{self.err_code} | a stand-in's error"

    def get_error_code(self) -> int:
        return self.err_code


class AmdSmiMemoryType(IntEnum):
    VRAM = 0


class AmdSmiClkType(IntEnum):
    GFX = 1
    MEM = 4


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0


def amdsmi_init() -> None:
    if error := _state().get("init"):
        raise AmdSmiLibraryException(error)


def amdsmi_shut_down() -> None:
    pass


def amdsmi_get_processor_handles() -> list[int]:
    return list(range(len(_state()["gpus"])))


def __getattr__(name: str) -> Callable[..., Any]:
    if not name.startswith("amdsmi_get_") or name in _state().get("missing", ()):
        raise AttributeError(name)

    def answer(handle: int, kind: IntEnum | None = None, _metric: IntEnum | None = None) -> Any:
        answers = _state()["gpus"][handle]
        key = name if kind is None else f"{name} {kind.name}"
        if key not in answers:
            raise AmdSmiLibraryException(NOT_SUPPORTED)
        return answers[key]

    return answer


def _state() -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Path(os.environ["STUDIO_FAKE_AMDSMI"]).read_bytes())
    return state


# As AMD's: whatever is wrong with the library shows at the import.
if _state().get("library") == "missing":
    raise KeyError("libamd_smi.so")
