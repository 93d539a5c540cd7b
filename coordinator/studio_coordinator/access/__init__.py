"""Access: who calls, what they may do, and that what they did is written down. One interceptor, deny by default.

::

    call ─► authenticate ─► rules: audience, role, reach ─► scope: is it theirs? ─► servicer ─► prune: only what is theirs
             │ token, certificate                                                     │
             └────────────────────────────── journal: the audit entry ◄───────────────┘

============= ==================================================================================================
caller        who calls; every servicer may ask
rules         the table: every RPC, its audience, the least role, and how far a tenant's operator reaches
scope         which objects a request names, and which of an answer's are a tenant's own (pure)
authenticate  from metadata and certificate to a caller
local_token   the file whose reader is the coordinator's own user
ownership     looks up whose an object is
journal       audit entries: in the transaction of the change, or right after
describe      what an object looks like in the audit log
interceptor   all of it round every RPC
============= ==================================================================================================
"""
