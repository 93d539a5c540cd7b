"""The fleet's own certificate authority: who signs, what is signed, and when one authority follows another.

::

    join token ──► enrolment ──► identities (store)            phases ★ ──► office ──► authorities (store)
    renewal  ──►   │    ▲                                                     │ keyring
                   └────┴──────────────── certificates ★ ◄────────────────────┘──► server_tls (the coordinator's own ports)

============== =================================================================================
phases         ★ TRUSTED → SIGNING → RETIRING → gone: what the next step is, and who it waits for
certificates   ★ makes authorities, certificates of nodes and of the coordinator itself
keyring        the authorities of one moment, with their keys
renewal_rule   ★ what a renewal says of its caller: renew, answer again, or two machines hold it
office         keeps the keyring in step with the database; makes the first authority; rotates
enrolment      the transactions of joining and renewing; the one check of a node that calls
nodes          what open streams hear: the authorities in force, and that a refused node is cut off
server_tls     the coordinator's certificate, renewed and swapped while it serves
clones         two machines with one identity, seen by who comes back
fleet_identity all of it, put together
mint           many identities at once, without tokens: for benchmarks and tests
============== =================================================================================

Any coordinator on the database signs: private keys lie there sealed, and a transaction decides.
"""
