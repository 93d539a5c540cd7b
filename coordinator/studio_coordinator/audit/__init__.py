"""The audit log: every change that somebody asked for, chained, so that history cannot be rewritten unnoticed.

``chain`` is an entry's canonical form and hash, and what a verification finds. ``access.journal`` makes the entries of calls,
``access.describe`` says what their objects look like, ``access.allowance`` how many refusals go in; ``store.audit`` keeps them.

An entry is written in the transaction of the change itself, as its last statement; a change that touches no row, and one that was
refused, is entered right after. The chain proves order and content; that its end was not cut off only an anchor kept elsewhere
can prove.
"""
