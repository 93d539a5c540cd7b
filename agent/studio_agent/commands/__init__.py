"""Commands: one-shot operations on this host that are not desired state.

========== ==============================================================================
desk       ``CommandDesk``: takes commands in, runs each once, tells how far it is
operations what each of them does, and what it says when it is done
inquiries  those that only look: what a model is, how an engine would be started
adapters   LoRA adapters of a running engine: loaded and dropped
journal    the results of the last commands, so that a repeated one is answered, not done
========== ==============================================================================

A command outlives the connection that it came over: it is the work of the agent, and whoever asks again with the same id is told
how far it is, or how it ended. One that the agent's own end broke off is done anew when it is sent again; each operation goes on
with what an earlier try has left.
"""
