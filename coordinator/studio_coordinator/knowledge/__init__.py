"""What the coordinator knows beside the desired state, kept in memory so that a pass of the plan only looks it up.

============ ==========================================================================================
figures      what hosts say of themselves by the second, put where the plan and operators look for it
activity     what each replica has been doing: idle since when, asked how often
questions    one question to a connected host, and its answer
library      facts of models, read in the background from hosts or the hub, kept in the database
measurements what starts of engines measured, kept in the database; corrects the next estimate
sizes        both together: what each recipe takes on the GPUs of this fleet
snapshots    all of it with the stored state: the whole input of one pass
============ ==========================================================================================

Nothing here decides. A pass never waits for any of it: what is not known yet is missing in the snapshot.
"""
