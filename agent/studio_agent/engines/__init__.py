"""Engine drivers: one file for each engine, behind the protocol of `base`.

===========================================  ======================================================================
`vllm`, `sglang`, `tabbyapi`, `llamacpp`,    the drivers: recipe to command, log line to phase, end of log to named failure,
`demo`                                       metrics to figures. Their tables are beside them: `…_phases`, `…_failures`,
                                             `…_metrics`
`flags`, `flag_list`, `typed_args`           argv words; what the installed engine takes; what an engine cannot be told
`environ`                                    the environment, devices by UUID, and what a recipe may not set
`memory`, `parallel`                         bytes and GPUs in each engine's terms
`model_facts`, `parsers`                     what a model's files say: its task, its tool and reasoning parsers
`phases`, `failures`, `figures`, `canary`    what reads logs and metrics; the smallest request
`preview`                                    the command, to be shown
`inquiry`                                    the only part that touches anything: asks the installed engine and the model's files
===========================================  ======================================================================

Everything here but `inquiry` is pure.
"""

from studio_agent.engines.base import Driver
from studio_agent.engines.demo import DemoDriver
from studio_agent.engines.errors import UnknownEngineError
from studio_agent.engines.llamacpp import LlamacppDriver
from studio_agent.engines.sglang import SglangDriver
from studio_agent.engines.tabbyapi import TabbyapiDriver
from studio_agent.engines.vllm import VllmDriver

_ALL: tuple[Driver, ...] = (VllmDriver(), SglangDriver(), TabbyapiDriver(), LlamacppDriver(), DemoDriver())
_DRIVERS = {driver.name: driver for driver in _ALL}


def driver_for(name: str) -> Driver:
    """The driver of the engine that recipes call ``name``. Raises UnknownEngineError."""
    try:
        return _DRIVERS[name]
    except KeyError:
        raise UnknownEngineError(name, tuple(_DRIVERS)) from None
