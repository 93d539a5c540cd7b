"""Decisions of the coordinator: pure functions from a snapshot to actions, each with its reason.

``plan(snapshot)`` in ``reconcile`` is the whole of it, in four steps that each build on the one before:

1. ``hosts``      which hosts are there, judged by the age of their heartbeats, under the brake
2. ``lifecycle``  what the agents observed, folded into each replica's state
3. ``scale``      how many replicas each deployment lacks or has too many; ``place`` finds room (``feasible`` → ``rank``)
4. ``routes`` and ``assignments``  the route table and each host's document that follow

Nothing here reads a clock, a database or a socket: time and identifiers are arguments. ``memory`` estimates what a model needs.
"""
