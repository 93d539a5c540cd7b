"""Decisions of the coordinator: pure functions from a snapshot to actions, each with its reason.

``plan(snapshot)`` in ``reconcile`` is the whole of it, in four steps that each build on the one before:

1. ``hosts``      which hosts are there, judged by the age of their heartbeats, under the brake
2. ``lifecycle``  what the agents observed, folded into each replica's state
3. ``scale``      how many replicas each deployment lacks or has too many; ``place`` finds room (``feasible`` → ``rank``)
4. ``routes`` and ``assignments``  the route table and each host's document that follow

Changes of revision (docs/rollouts.md): ``rollout`` says which phase one is in, ``canary`` judges figures, ``course`` says which
revisions are to run and how traffic is shared, ``steering`` moves all of them on, ``drain_first`` makes room.

Placement, in the stages feasible → rank → place (docs/scheduling.md):

================ ==================================================================================================
sizing           the estimate as a need of GPUs; `split`, `parallelism`: how many of them; `allowance`: what the engine is told
wish             what one replica asks for; `engine_minimums`: the oldest GPU and driver of each engine, as data
gpus, occupancy  a host's devices, and who holds what of them: our replicas, and strangers as measured
feasible         whether a host as a whole takes the replica; `pick`, `topology`: which of its GPUs, and how good that is
rank             which host is best
fleet            all hosts, indexed: the best host at the cost of the kinds of hosts, not of their number
place            one answer: placed, waiting for others to leave, or refused
make_room        room by moving what the same pass placed; `preempt`: by victims of lower priority; `victims`: the cheapest
across           several hosts for one replica; `members`: its parts, `group`: their life, `rendezvous`: where they meet
on_demand        who makes room for a model that a request waits for; `rebalance`: moves that free hosts or heal spread
why_not          the reason of every host, alike ones together (`names`), and `would_fit`: what to change
order            which deployment chooses first
preview          what a pass would do, for `studio plan`; `moves`: a rebalance as rows
================ ==================================================================================================

Nothing here reads a clock, a database or a socket: time and identifiers are arguments. ``memory`` estimates what a model needs.
"""
