"""The agent: one host of the fleet. It starts engines that outlive it, watches them, and tells the coordinator.

Inputs: the coordinator's assignment (what should run here), the host itself (processes, logs, GPUs).
Outputs: running engines; observations, events, telemetry and logs for the coordinator.

============ ===============================================================================================
session      the control stream: Hello, assignments, observations, heartbeats, events, pulled logs
telemetry    the latest figures of host, GPUs and replicas, on a stream of their own
supervise    the loop that makes the host match its assignment, one supervised task for each replica
plan         ★ pure: what may follow what, what to do next, what to refuse, when to try again
launch       starting, finding, adopting and killing engines as whole process trees
engines      one driver for each engine: its command, its log, its metrics
environments engine programs and model files on this host
gpu          the GPU sampler
ledger       what the agent must remember over its own death, and where that is kept
event_queue  events that the coordinator has not stored yet, on disk
============ ===============================================================================================

Rules that hold everywhere: nothing that the agent did not start is ever signalled; an intent is on disk before the act; the
agent's end, however it comes, leaves the engines running.
"""
