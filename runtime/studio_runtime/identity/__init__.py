"""Identities of nodes (agents, gateways, consoles): how one gets its certificate, keeps it and renews it.

::

    join token ──join──► identity folder ──renewal, at two thirds of its life──► identity folder ─► …
                              │
                              └──► ClientTls for every channel that is opened

The private key is made on the node and never leaves it; the coordinator's authority sees a request (PKCS#10) and nothing else.

========== =====================================================================
names      what a certificate says about its holder, as a URI
join_token the text that lets one node join, once
stored     one in memory
folder     where key, certificate and trusted authorities lie
ownership  root writes them as the owner of the state folder
pinning    the first connection: the authority with the fingerprint one was told
join       token and request up, certificate down
proof      that the caller of a renewal has the key of the certificate it shows
renewal    before the certificate runs out, and when the authorities change
options    ``join`` on the command line of a role
command    what it does, and ``renew`` for nodes without a process
__main__   both, for nodes whose role has no such commands: consoles
========== =====================================================================
"""
