"""For every lane."""

import signal

import structlog
from hypothesis import settings

# A loaded machine is no defect: how long an example takes is never judged.
settings.register_profile("studio", deadline=None, print_blob=True)
settings.load_profile("studio")

# Where the tests themselves run behind a shell's `&`, SIGINT is ignored, and every process that they start and interrupt would
# ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What structlog does where nobody configured it: a traceback with every local variable takes seconds on a busy machine, in which
# the event loop stands still, leases run out and the test fails of that.
*_processors, _ = structlog.get_config()["processors"]
_renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*_processors, _renderer])
