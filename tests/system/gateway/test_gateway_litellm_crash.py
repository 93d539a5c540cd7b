"""What the process that runs LiteLLM says when it crashes: where, and no key that it was told."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

KEY = "sentinel-of-a-provider-5c1e"


def test_a_crash_report_holds_no_key(tmp_path: Path) -> None:
    first = {"word": "w", "parent": os.getpid(), "said": 0, "config": "", "log_level": "debug"}
    lines = [json.dumps(first), json.dumps({"keys": {"openai": KEY}})]
    # Broken off in the middle of a key, and a table that is none.
    for last in (f'{{"keys": {{"openai": "{KEY}', json.dumps({"routes": base64.b64encode(KEY.encode()).decode()})):
        done = subprocess.run(
            [sys.executable, "-m", "studio_gateway.litellm_child"],
            input="\n".join([*lines, last]) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode != 0
        assert "Error" in done.stderr
        assert KEY not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []
