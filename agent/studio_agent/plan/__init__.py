"""What the agent decides, apart from all effects: plain data in, plain data out, ``now`` is an argument.

record        what the agent knows of one replica
lifecycle     which state may follow which
assignment    which assignments are accepted, and the agent's own brake
start_limits  how long an engine may take to start
restarts      when a failed engine is tried again, and when it is given up
reconcile     ``plan(desired, records, now)``: what to do next
"""
