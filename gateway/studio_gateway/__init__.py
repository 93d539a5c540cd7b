"""The front door: one OpenAI-compatible address for every model of the fleet.

In:   HTTP requests under ``/v1/`` with an API key; tables of routes and keys from the coordinator, by stream.
Out:  the same requests, byte for byte, to an engine of the fleet, or through LiteLLM to another provider; usage records
      to the coordinator.

The coordinator is never on the path of a request: the last good tables are in memory and on disk, usage waits on disk.

A request's way::

    client ─► app ─► keys ─► table ─┬─► forward ─► pick ─► engine          (aiohttp, bytes)
                                    └─► litellm_lane ─► other provider     (objects)
              account ◄─ relay ◄─ sse ◄──────┘

================ ================================================================================================
app              the ASGI application: which answer a path gets, and the one exit that every request leaves by
exchange         one request and its answer, as the ASGI server hands them over
models           the list of models ★
call             what a body asks for: model, streaming; and the few edits that a body may get ★
forward, relay   the data path to the fleet's engines: open, retry once, copy
litellm_lane     the only file that knows LiteLLM
provider_call    what another provider may be asked ★
table, keys      the immutable forms of what the coordinator sends ★
pick             which endpoint: least requests in flight, ejection of those that do not answer ★
sse, usage       token counts out of answers, extra usage events taken out ★
headers          which headers go on, in either direction ★
openai_errors    every refusal, in the shape and with the codes that clients know ★
account          one request's record, and what the metrics see of it
watch, last_good the tables: received, acknowledged, kept on disk
report, spool    usage: batches to the coordinator, on disk while it is away
link             which coordinator is being talked to
server           uvicorn, stopped by cancellation, drained with a deadline
daemon           all of it put together; ``__main__`` reads the command line
================ ================================================================================================

★ pure: no clock, no network, no disk.
"""
