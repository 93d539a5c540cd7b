"""The coordinator's services: thin, each call authorises, asks the store, and answers.

=========  ====================================================================
guard      what every unary call gets: a span, and refusals that a person can read
agents     AgentService: one control and one telemetry stream for each host
routes     RouteService: tables to the gateways, usage back
desired    AdminService, what operators want: apply, stop, scale, delete
planning   AdminService, what would happen: plan, rebalance
views      AdminService, what operators see: lists, events, logs
commands   AdminService: one-shot operations on hosts
accounts   AdminService: keys, providers, usage
hosts      AdminService: cordon, drain, label, remove
server     all of them on one port, with health and reflection
=========  ====================================================================
"""
