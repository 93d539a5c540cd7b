"""Whose engine a cgroup is, by its path alone: this is how memory on a GPU is told to be ours or a stranger's."""

import pytest
from studio_agent.launch.owner import token_in
from studio_agent.launch.systemd import SLICE, unit_of

TOKEN = "qwen3.5-1.4.abc"


@pytest.mark.parametrize(
    ("path", "token"),
    [
        (f"/{SLICE}/{unit_of(TOKEN)}", TOKEN),
        (f"/{SLICE}/{unit_of(TOKEN)}/workers", TOKEN),
        (f"/vllm-studio/h1/{TOKEN}", TOKEN),
        (f"/system.slice/agent.service/vllm-studio/h1/{TOKEN}/workers", TOKEN),
        # Another agent's, another unit, and what a user could make in a folder of his own.
        (f"/vllm-studio/h2/{TOKEN}", ""),
        ("/system.slice/studio-agent.service", ""),
        (f"/user.slice/user-1000.slice{unit_of(TOKEN)}", ""),
        (f"/user.slice/{SLICE}/{unit_of(TOKEN)}", ""),
        (f"/{SLICE}/studio-engine@a/b.service", ""),
        (f"/{SLICE}", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_an_engines_cgroup_names_its_start(path: str, token: str) -> None:
    assert token_in(path, "h1") == token
