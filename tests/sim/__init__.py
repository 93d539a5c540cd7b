"""A whole installation in one thread and in virtual time: the same seed gives the same story.

========== ==========================================================================================================
story      the simulation: what happens by chance, and how it comes to rest
revisions  what operators name: good ones, ones that do not start, ones that answer with errors
schedule   virtual time: what is to happen when
network    messages that are late, doubled, out of order or lost
memory     the database's tables with the guards of the real statements: lease epoch, row versions, generations
leader     a coordinator: the lease by its own clock, the real plan, crashes at every commit point
host       an agent: the real judgement of assignments, engines that take their time
gateway    a gateway: the real order of tables
promises   what must hold after every step, and once everything rests
========== ==========================================================================================================

The plan, the agent's judgement of assignments and the gateway's judgement of tables are the real code; the database, the network
and the passage of time are modelled. ``python -m sim --seeds 20000`` in ``tests/`` looks for longer.
"""
