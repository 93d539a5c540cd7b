"""Engine drivers: one file for each engine, behind the protocol of `base`.

===================  ==============================================================================
`vllm`, `demo`       the drivers: recipe to command, log line to phase, end of log to named failure, metrics to figures
`flags`, `environ`   argv words and environment, and what a recipe may not set
`phases`, `failures`, `figures`   what reads logs and metrics; `vllm_phases`, `vllm_failures`, `vllm_metrics` are its tables
===================  ==============================================================================

Everything here is pure.
"""

from studio_agent.engines.base import Driver
from studio_agent.engines.demo import DemoDriver
from studio_agent.engines.errors import UnknownEngineError
from studio_agent.engines.vllm import VllmDriver

_DRIVERS: dict[str, Driver] = {driver.name: driver for driver in (VllmDriver(), DemoDriver())}


def driver_for(name: str) -> Driver:
    """The driver of the engine that recipes call ``name``. Raises UnknownEngineError."""
    try:
        return _DRIVERS[name]
    except KeyError:
        raise UnknownEngineError(name, tuple(_DRIVERS)) from None
