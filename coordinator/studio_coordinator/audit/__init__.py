"""The audit log: every change that somebody asked for, chained, so that history cannot be rewritten unnoticed.

=========== ================================================================================================
chain       an entry's canonical form and hash; what a verification finds
draft       one change on its way into the log: what the interceptor knows before, what the transaction adds
objects     which objects a request is about, and what they look like before and after
denials     how many refusals of strangers go into the log
=========== ================================================================================================

An entry is written in the transaction of the change itself, as its last statement; a change that touches no row, and one that was
refused, is entered right after. The chain proves order and content; that its end was not cut off only an anchor kept elsewhere
can prove.
"""
