"""A fleet of test hosts that Ansible can reach: sshd runs in them, and nothing of Studio is there."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from fakes.nvml import FakeNvml, built
from fleet import rootfs
from fleet.hosts import Host, Ran
from fleet.network import Network
from fleet.studio_host import CHECKOUT

Answer = TypeVar("Answer")

CONTROLLER = "control"
GPU_HOSTS = ("gpu1", "gpu2", "gpu3")
GROUPS = {"coordinators": (CONTROLLER,), "gateways": (CONTROLLER,), "agents": GPU_HOSTS}
LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"
# The stand-in reads its GPUs from here; the agent's unit is told so beside what Ansible writes.
GPU_FOLDER = "srv/gpus"
GPU_DROP_IN = f"[Service]\nEnvironment=STUDIO_FAKE_NVML=/{GPU_FOLDER}/nvml.state\n"
PLAYBOOKS = CHECKOUT / "ansible/playbooks"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Played:
    """How a playbook went."""

    code: int
    output: str

    def ok(self) -> "Played":
        assert self.code == 0, self.output[-12_000:]
        return self

    @property
    def changed(self) -> dict[str, int]:
        """Changes by host."""
        return {name: int(changed) for name, _, changed, _, _ in RECAP.findall(self.output)}


@dataclass
class Fleet:
    """A controller with coordinator and gateway, and GPU hosts. The CLI runs on the controller, as an operator's does."""

    folder: Path
    hosts: Mapping[str, Host]
    variables: dict[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=lambda: GROUPS)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def controller(self) -> Host:
        return self.hosts[self.groups["coordinators"][0]]

    @property
    def gpu_hosts(self) -> list[Host]:
        return [self.hosts[name] for name in self.groups["agents"]]

    def boot(self) -> None:
        """Let the controller in by key, give GPU hosts their GPUs, and boot all of them."""
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)  # noqa: S607 - root's own PATH
        for host in self.hosts.values():
            subprocess.run(["chroot", str(host.root), "ssh-keygen", "-A"], check=True, capture_output=True)  # noqa: S607
            host.write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), 0o600)
        for host in self.gpu_hosts:
            shutil.copy(built(), host.root / LIBRARY_FOLDER / "libnvidia-ml.so.1")
            host.write("/etc/systemd/system/studio-agent.service.d/gpus.conf", GPU_DROP_IN)
            (host.root / GPU_FOLDER).mkdir()
            FakeNvml(host.root / GPU_FOLDER).add_gpu(f"GPU-{host.name}")
        with ThreadPoolExecutor() as threads:
            list(threads.map(Host.boot, self.hosts.values()))
        self._write_inventory()

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Played:
        """Run a playbook over SSH; ``variables`` go before the fleet's own."""
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), str(PLAYBOOKS / f"{playbook}.yml")]
        argv += ["--inventory", str(self.folder / "inventory.yml"), "--extra-vars", json.dumps(variables), *arguments]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible/ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        ended = subprocess.run(
            argv, env=environment, cwd=CHECKOUT / "ansible", capture_output=True, text=True, check=False, timeout=600
        )
        return Played(ended.returncode, ended.stdout + ended.stderr)

    def studio(self, *arguments: str, on: str = "") -> Ran:
        """Run the CLI as an operator on the controller, or on another coordinator's host."""
        return (self.hosts[on] if on else self.controller).call("studio", *arguments, timeout=120)

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What the CLI lists, as data."""
        return list(json.loads(self.studio(*arguments, "-o", "json").ok()))

    def shown(self, *arguments: str, on: str = "") -> dict[str, Any]:
        """One thing that the CLI shows, as data."""
        return dict(json.loads(self.studio(*arguments, "-o", "json", on=on).ok()))

    async def until(
        self, what: Sequence[str], condition: Callable[[list[dict[str, Any]]], object], seconds: float = 90.0
    ) -> list[dict[str, Any]]:
        """Ask the CLI for ``what`` until ``condition`` holds for what it lists. Returns that."""
        return await eventually(lambda: self.listed(*what), condition, seconds)

    def _write_inventory(self) -> None:
        def members(names: Sequence[str]) -> dict[str, Any]:
            return {"hosts": {name: {"ansible_host": self.hosts[name].address} for name in names}}

        ssh = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ControlPersist=120"
        inventory = {
            "all": {
                "vars": {
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(self.folder / "key"),
                    "ansible_ssh_common_args": ssh,
                    **self.variables,
                },
                "children": {group: members(names) for group, names in self.groups.items()},
            }
        }
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(inventory))


@contextmanager
def booted_fleet(
    folder: Path,
    network: Network,
    groups: Mapping[str, Sequence[str]],
    variables: dict[str, Any],
    prepare: Callable[[Host], object] = lambda _host: None,
) -> Iterator[Fleet]:
    """Hosts with nothing on them but sshd and what ``prepare`` puts on their disks, on while the block runs."""
    folder.mkdir()
    names = sorted({name for members in groups.values() for name in members})
    hosts = {name: Host(name, rootfs.prepared(), folder / name, network.new_cable()) for name in names}
    made: list[Host] = []
    try:
        for host in hosts.values():
            made.append(host)
            host.make_disk()
            prepare(host)
        fleet = Fleet(folder, hosts, variables, groups)
        fleet.boot()
        yield fleet
    finally:
        for host in made:
            host.remove()


async def eventually(ask: Callable[[], Answer], condition: Callable[[Answer], object], seconds: float = 90.0) -> Answer:
    """Ask, which may fail, until ``condition`` holds for the answer. Returns that."""
    found: object = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    answer = await asyncio.to_thread(ask)
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    found = error
                else:
                    if condition(answer):
                        return answer
                    found = answer
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"it did not come true within {seconds} s; last: {found}") from None
