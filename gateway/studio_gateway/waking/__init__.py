"""Requests for models that are asleep, stopped for idleness, or on their way up: held until they can be sent.

In:   a request whose model has no endpoint and can be woken (``Route.wakeable``)
Out:  the same request, sent when the route has an endpoint; or refused with 503 ``model_waking`` and ``Retry-After``

The wish itself is the number of held requests in the traffic report (`traffic`): one waking, however many wait. A model's queue
is bounded and fair between tenants (`fair`); a client that leaves is forgotten at once; after the deployment's deadline the
request is refused. Nothing is sent to the client meanwhile but, in a stream that has waited for `KEEP_ALIVE_SECONDS`, comments of
the event stream, which keep clients and proxies from giving up. From then on the status is 200: a failure is the stream's last
event.

======= ====================================================
held    one request that waits, with its deadlines
room    all that wait, by model; looks at every new table
======= ====================================================
"""
