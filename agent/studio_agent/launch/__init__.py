"""Starting, finding and killing engines as whole process trees that outlive the agent.

base         ``Launcher``: what supervision asks for, whatever starts the engines
process      ``ProcessLauncher``: own session, and own cgroup where the kernel allows
systemd      ``SystemdLauncher``: an instance of ``studio-engine@.service``, run as another user
cgroup       cgroup-v2 folders: one for each engine
proc_scan    reading /proc: which processes belong to an engine
owner        which replica a process belongs to
pidfd        waiting for and signalling exactly one process
enter        the few lines that run between fork and the engine's program
engine_spec  what an engine unit is to run, in a file
exec_spec    the command of an engine unit: becomes what the spec describes
sharing      the files and folders that agent and engines both use
systemctl    asking systemd

Without systemd, three marks tie a process to its engine: its cgroup, its session, and the token in its environment. A child can
leave any one of them; killing goes by all three. A unit's cgroup cannot be left. No mark is a name or a command text.
"""

from studio_agent.launch.base import FoundEngine, Launcher, LaunchError
from studio_agent.launch.cgroup import EngineCgroups
from studio_agent.launch.process import ProcessLauncher
from studio_agent.launch.sharing import EngineGroup
from studio_agent.launch.systemd import SystemdLauncher

__all__ = [
    "EngineCgroups",
    "EngineGroup",
    "FoundEngine",
    "LaunchError",
    "Launcher",
    "ProcessLauncher",
    "SystemdLauncher",
]
