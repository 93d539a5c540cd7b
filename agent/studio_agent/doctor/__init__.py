"""``studio-agent doctor``: what this host needs for the agent's work, each looked at for itself, with what to do about it.

finding    what a check says, and how it is shown
host       state folder, disk, ports, clock, GPUs, the way to the coordinator
engines    the engine environments that are installed
launcher   what the chosen launcher needs: cgroups; or users, units and the polkit rule

It changes nothing, may run beside a live agent, and waits for no check longer than some seconds.
"""

from studio_agent.doctor.examination import examine

__all__ = ["examine"]
