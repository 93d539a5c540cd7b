"""Making the host match its assignment.

loop         ``Supervisor``: records → plan → apply, woken by changes, exits and timers; its beat is the host's heartbeat
replica      ``ReplicaSupervision``: the one writer of a replica's record; carries out what the plan says
keeper       the record of one replica: how it changes, and what is said about that
bring_up     from an assigned replica to a started engine: program, model, port, command, note, process
readiness    from a started engine to one that answered a completion
joining      the same for a part of a replica over several hosts
health_watch looking at a running engine until it is found hung
readings     the latest figures of each engine
stack_dump   where a hung engine's processes stand, before it is killed
sleep        putting an engine to sleep and waking it
wind_down    drain, SIGTERM, kill, and proof that nothing is left
memory_release  waiting until the GPU memory of what was ended is free
gpus         what is asked of the host's GPUs
gpu_blame    when a failure is the GPU's doing, and when a GPU is to be trusted no more
adoption     what the ledger says against what runs, when the agent starts
observation  a record as the coordinator sees it
event_log    events, each with a sentence for people
equipment    what all of these work with
ports        a free port for an engine
race         several things that may happen first
"""

from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.loop import Pulse, Supervisor
from studio_agent.supervise.sleep import unmet_wishes

__all__ = ["Equipment", "Pulse", "Supervisor", "unmet_wishes"]
