"""The coordinator's memory: PostgreSQL, one file per aggregate with its table and its queries.

=============== =======================================================================================================
database        the engine, its time-outs, transactions; connection failures become ``UnavailableError``
witness         somebody who sees a call's transactions from inside
columns         column types for contract values, and rows to messages and back
metadata        the one ``MetaData`` with its naming convention
counters        numbers that rise with every change (events, access)
hosts           hosts, their sessions and their GPUs
recipes         recipes and their immutable revisions
model_names     who owns a public model name: one deployment or one provider model
deployments     what is to be served; optimistic versions, history, marks for deletion
desired_state   all recipes and deployments at one moment, for an export
replicas        running engines; the leader is their one writer
replica_members their parts on other hosts, where they span several
last_requests   when deployments were last asked for
assignments     what each host should run, by generation
routes          the one versioned route table
access          API keys
tenants         who keys and deployments belong to
quota           what gateways were leased of keys' and tenants' bounds
prices          what tokens cost
key_pepper      which secret they are hashed with
master_key      which key the sealed rows are sealed with
operators       people and programs that may administer, by the hashes of their tokens
secrets         sealed values that recipes and providers name
audit           what was changed by whom, chained
providers       models of other providers
events          what happened, in commit order
usage           finished requests
model_facts     what was read of models
measured_memory what starts of engines measured
lease           who leads, with a fencing epoch
idempotency     first answers to repeated requests
migrations      Alembic, shipped in the wheel
=============== =======================================================================================================

Every function takes an ``AsyncConnection`` inside a transaction of ``Database.transaction`` and returns contract messages or
frozen values, never rows. Rules for locking: a transaction is short and makes no network call; the leader's begins with
``lease.check``; rows are locked without their keys, so that rows which refer to them can be added meanwhile; events and access
changes come last, because their counters serialise whoever raises them.
"""
