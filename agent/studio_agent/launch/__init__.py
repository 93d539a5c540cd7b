"""Starting, finding and killing engines as whole process trees that outlive the agent.

base         ``Launcher``: what supervision asks for, whatever starts the engines
process      ``ProcessLauncher``: own session, and own cgroup where the kernel allows
cgroup       cgroup-v2 folders: one for each engine
proc_scan    reading /proc: which processes belong to an engine
pidfd        waiting for and signalling exactly one process
enter        the few lines that run between fork and the engine's program

Three marks tie a process to its engine: its cgroup, its session, and the token in its environment. A child can leave any one
of them; killing goes by all three. None of them is a name or a command text.
"""

from studio_agent.launch.base import FoundEngine, Launcher, LaunchError
from studio_agent.launch.cgroup import EngineCgroups
from studio_agent.launch.process import ProcessLauncher

__all__ = ["EngineCgroups", "FoundEngine", "LaunchError", "Launcher", "ProcessLauncher"]
