"""``studio up``: the whole system on this machine, as one supervisor and one process per role.

::

    studio up ─┬─ postgres       each role is started by command line, in a session of its own, with its log in logs/,
               ├─ coordinator    and is told to stop by the kernel when the supervisor ends, however it ends
               ├─ agent ······ engines (they outlive the agent; stopped on the way out through `stop-engines`)
               └─ gateway

=============== =================================================================================
options         what was asked for
preflight       what is checked before anything is started
roles           the table of roles: command lines, readiness, how to stop (pure)
readiness       how a role says that it is ready
roster          which processes run now, for the next ``up`` and for ``down``
log_tail        why a role does not start, in its own words
keeper          one role: started, watched, started again
pace            how soon a role that died is started again (pure)
shutdown        everything stopped in order
local_key       the API key of this machine
first_recipe    what is served first (pure)
serve_first     … and waiting until it is ready
up_file         up.json
bring_up        the order of it all
detach, down    the same in the background, and its end
=============== =================================================================================
"""
