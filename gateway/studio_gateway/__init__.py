"""The front door: one OpenAI-compatible address for every model of the fleet.

In:   HTTP requests under ``/v1/`` with an API key; tables of routes and keys from the coordinator, by stream.
Out:  the same requests, byte for byte, to an engine of the fleet, or through LiteLLM to another provider; usage records
      to the coordinator.

The coordinator is never on the path of a request: the last good tables are in memory and on disk, usage waits on disk.

A request's way::

    client ─► http1 ─► exchange ─► app ─► keys ─► table ─┬─► forward ─► pick ─► upstream ─► engine     (bytes)
                                                         └─► litellm_lane ─► provider, or engine      (objects)
                    exchange ◄───── account ◄──── relay ◄──── sse ◄──────┘

Between client and engine nothing is a task: the call that reads from one socket writes to the other.

================ ================================================================================================
server, client   the listening socket; one connection of a client, with its deadlines
http1, chunks    the one strict grammar by which clients and engines are read ★
exchange         one request and its answer, which begins once and ends once
app              which answer a path gets, and the one exit that every request leaves by
models           the list of models ★
call             what a body asks for: model, streaming; and the few edits that a body may get ★
forward, relay   the data path to the fleet's engines: ask, retry once, copy
upstream         connections to engines, kept for the next request
litellm_lane     requests through LiteLLM: to other providers, and to engines whose models ask for it
provider_call    what may be asked through it ★
provider_address whether a provider is still outside when it is asked
litellm_router   its router, kept in step; with litellm_import the only file that imports it
litellm_process  the same lane in a process of its own, which is litellm_child
litellm_plugin   the fleet in the router of a LiteLLM proxy that runs elsewhere
work             an answer in the making, for whoever has to stop it
table, keys      the immutable forms of what the coordinator sends ★
pick, strategies which endpoint ★
standing         what is outstanding at each endpoint, and which are left out because they fail ★
affinity         what a request has in common with others: its session, the beginning of its prompt ★
retry_budget     how many requests may be sent a second time ★
sse, usage       token counts out of answers, extra usage events taken out ★
headers          which headers go on, in either direction ★
openai_errors    every refusal, in the shape and with the codes that clients know ★
account, tally   one request's record; and what the metrics see of all
trace            the trace that a request belongs to
deadlines        the deadlines of all connections under one timer
watch, last_good the tables: received, acknowledged, kept on disk
report, spool    usage: batches to the coordinator, on disk while it is away
link             which coordinator is being talked to
daemon           all of it put together; ``__main__`` reads the command line
================ ================================================================================================

★ pure: no clock, no network, no disk. Why a server of our own: ``docs/decisions/0003-own-http-server-in-the-gateway.md``.
"""
