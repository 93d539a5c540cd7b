"""The coordinator: the fleet's memory and its plan.

In: what operators want (``rpc/desired``), what agents observe (``rpc/agents`` → ``sessions``), what gateways acknowledged
(``rpc/routes`` → ``gateways``). Out: one assignment document per host, one route table, events that say why.

The way through: ``loop`` loads a snapshot from ``store`` and ``knowledge``, asks ``plan`` (pure) what to do, commits it in one
transaction guarded by the lease of ``leadership``, and publishes. ``manifest`` (pure) reads what operators write.
"""
