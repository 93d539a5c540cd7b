"""Making the host match its assignment.

loop         ``Supervisor``: records → plan → apply, woken by changes, exits and timers; its beat is the host's heartbeat
replica      ``ReplicaSupervision``: the one writer of a replica's record; carries out what the plan says
bring_up     from an assigned replica to a started engine: program, model, port, command, note, process
readiness    from a started engine to one that answered a completion
wind_down    drain, SIGTERM, kill, and proof that nothing is left
adoption     what the ledger says against what runs, when the agent starts
observation  a record as the coordinator sees it
event_log    events, each with a sentence for people
equipment    what all of these work with
ports        a free port for an engine
"""

from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.loop import Pulse, Supervisor

__all__ = ["Equipment", "Pulse", "Supervisor"]
