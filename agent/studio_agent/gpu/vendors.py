"""Which vendor's library is read: NVML where it is installed, else AMD's where its binding is, else none.

    NVML's library loads ──────────────► `nvml`
           │ no
    `amdsmi` can be imported ──────────► `amd`
           │ no
    refusal: this host is without GPUs

A host has GPUs of one vendor here: with both libraries, NVIDIA's are the ones that are seen.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from studio_agent.gpu import nvml
from studio_agent.gpu.frames import Refusal
from studio_agent.gpu.reader import GpusUnreadableError, Reader


@contextmanager
def opened() -> Iterator[Reader]:
    """The library of this host's GPUs from initialization to shutdown; raises GpusUnreadableError."""
    with ExitStack() as stack:
        try:
            reader: Reader = stack.enter_context(nvml.opened())
        except GpusUnreadableError as error:
            if not error.refusal.final:
                raise
            reader = stack.enter_context(_amd_instead(error))
        yield reader


def _amd_instead(without_nvml: GpusUnreadableError) -> AbstractContextManager[Reader]:
    try:
        from studio_agent.gpu import amd  # noqa: PLC0415 - few hosts have its binding, which loads a library at once
    except ModuleNotFoundError:
        raise without_nvml from None
    except (ImportError, OSError, LookupError, AttributeError) as error:
        # What the binding raises where it finds no library of AMD's, or one that is older than itself.
        reason = f"{without_nvml}; amdsmi is installed and cannot load its library: {error!r}"
        raise GpusUnreadableError(Refusal(reason, absent=True, final=True)) from error
    return amd.opened()
