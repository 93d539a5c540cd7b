"""Model files: from what a recipe names to a directory on this host that holds all of them.

=========== ======================================================================================
source      what a recipe may write: ``hf://OWNER/NAME`` or ``path://DIRECTORY``
start       the model of a replica that starts
cache       ``ModelCache``: what is here, what is being fetched, and who asks for what
pull        one pull as the agent sees it: a child process, its progress, its error
voice       what the child says, and how the agent hears it
fetch       that child: ask the hub, fetch, check, mark as complete
hub         the part of the child that talks to the hub, through ``huggingface_hub``
waits       ★ how long to leave a hub alone that refuses
selection   ★ which files of a repository engines want
folders     a cached revision on disk
inventory   what is there, as the contract has it
description what describes a model: configuration and headers, for the estimate
size        how large a model on this host is
digests     whether a file is what the hub says it is
errors      why the files cannot be had, each with a word
=========== ======================================================================================

A file gets its own name only when it is whole and its digest was checked; a revision counts as complete only when its marker,
written last, is there and every file has its size. What a broken-off pull leaves is taken up by the next one, in the middle of a
file. ``huggingface_hub``'s own downloads go to files of random names that are dropped when they break off, so of that library
the requests are used and not the cache. The child holds a lock on the repository, dies with the agent, and keeps imports and
hashing away from the agent's loop.
"""
