"""A whole installation in one thread and in virtual time: the same seed gives the same story.

========== ==========================================================================================================
story      the simulation: what happens by chance, and how it comes to rest
cast       the deployments that a story may have: with canaries, over several hosts, asleep until somebody asks
operators  they change their minds
troubles   all that can fail
revisions  what operators name: good ones, ones that do not start, ones that answer with errors
schedule   virtual time: an event loop whose clock jumps
network    calls that are late, doubled or lost, streams that break, parties that are cut off
memory     the database's tables with the guards of the real statements: lease epoch, row versions, generations
ledger     the loop's ledger over those tables; at each of its steps the process may die or be frozen
leader     a coordinator: the lease by its own clock, and the real leader's loop
reception  its registries of sessions and gateways, and a pump for each stream
host       an agent: the real judgement of assignments, engines that take their time, fall asleep, or wait for their parts
gateway    a gateway: the real order of tables, requests that are held until a model is awake
promises   what must hold after every step, and once everything rests
========== ==========================================================================================================

Real code: the loop's pass with its plan, the registries of sessions and gateways, the log of demand, the agent's judgement of
assignments, the gateway's judgement of tables. Modelled: the database, the lease, the network, engines, the passage of time.
``python -m sim --seeds 20000`` in ``tests/`` looks for longer.
"""
