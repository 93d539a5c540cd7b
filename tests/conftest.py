"""For every lane."""

import signal

from hypothesis import settings

# A loaded machine is no defect: how long an example takes is never judged.
settings.register_profile("studio", deadline=None, print_blob=True)
settings.load_profile("studio")

# Where the tests themselves run behind a shell's `&`, SIGINT is ignored, and every process that they start and interrupt would
# ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
