"""The command line ``studio``: what operators type.

It is a gRPC client of the coordinator's AdminService and nothing else: every noun of the fleet is asked for and changed there.
``studio up`` is the one exception, and even it starts the roles by command line and meets them in ``studio.v1``.

============= ======================================================================================
addresses     which coordinator: flag, environment, ``up.json``, context, default
coordinator   a connection: deadlines, trace context, refusals turned back into errors
errors        how an error is printed, and the table of exit codes
commands/     one file per noun: what is typed; each is a few lines
views/  (pure) proto messages to tables, stories and words
output        table, wide, JSON, YAML; once or watched
waiting       progress while replicas start or stop
report        the lines of that progress
up/           the whole system on this machine
============= ======================================================================================
"""
