"""One heap for all threads.

The C library gives each of gRPC's threads a heap of its own, which keeps what was freed there: a tenth of what thousands of
connections take. Python's own objects come from one thread anyway.
"""

import ctypes

M_ARENA_MAX = -8


def use_one_heap() -> None:
    """Called before there are threads. Without glibc nothing happens: others have no such heaps."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
