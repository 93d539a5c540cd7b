"""What every process of vLLM Studio shares; nothing here knows what a GPU is.

============ =======================================================================
settings     where things live on disk (``STUDIO_HOME``) and how addresses are written
errors       refusals that say what happened, why, and what to do; their gRPC form
logging      structlog: JSON lines, or console style on a terminal; secrets redacted
tracing      OpenTelemetry, off the network unless an endpoint is named
metrics      a Prometheus endpoint
channel      gRPC channels and servers with the options that were measured to work
certificates X.509, and what names keys
tls          whom a client trusts and how it proves who it is
identity     how an agent, a gateway or a console gets its certificate, keeps it and renews it
process      process identity, one TaskGroup per process, readiness, directory locks
watchdog     the service manager is told that the loop goes round
============ =======================================================================
"""
