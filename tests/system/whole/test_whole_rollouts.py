"""A new revision takes over with a real engine; a bad one does not, and who asks is answered all the while."""

import json

from fakes.whole_system import System, eventually

MANIFEST = """
kind: Recipe
name: steady
engine: {{name: demo}}
args: {{max_model_len: {length}, demo: {{{demo}}}}}
---
kind: Deployment
name: steady
recipe: steady
"""


def revisions(system: System) -> list[int]:
    return sorted(
        row["recipe_revision"]
        for row in system.listed("ps")
        if row["deployment"] == "steady" and row["state"] == "READY"
    )


def test_a_good_revision_takes_over_and_a_bad_one_is_rolled_back(system: System) -> None:
    for length in (1000, 2000):
        system.studio("apply", "-f", "-", "--wait", stdin=MANIFEST.format(length=length, demo=""))
    system.studio("rollout", "status", "steady", "--watch")
    assert eventually(lambda: revisions(system) == [2])
    bad = MANIFEST.format(length=3000, demo="fail_line: out of luck, exit_code: 3")
    applied = system.studio("apply", "-f", "-", "--wait", check=False, stdin=bad)
    assert (applied.returncode, "rolled_back" in applied.stderr) == (1, True), applied.stdout + applied.stderr
    assert eventually(lambda: revisions(system) == [2])
    told = json.loads(system.studio("rollout", "status", "steady", "-o", "json").stdout)
    assert told["rollout"]["phase"] == "ROLLED_BACK"
    assert told["target_revision"] == 2
