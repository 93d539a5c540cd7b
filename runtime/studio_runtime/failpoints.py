"""Places where a test has a process end as a crash would end it.

``STUDIO_FAIL_AT=NAME`` ends the process the first time it comes by ``failpoint("NAME")``: at once, without a clean-up, with
exit code 86. Without the variable a failpoint is a comparison of two strings.
"""

import os

VARIABLE = "STUDIO_FAIL_AT"
EXIT_CODE = 86

_fail_at = os.environ.get(VARIABLE, "")


def failpoint(name: str) -> None:
    """End the process here if ``name`` is the place that was chosen."""
    if name == _fail_at:
        os._exit(EXIT_CODE)
