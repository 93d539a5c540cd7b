"""Secrets that recipes on this host name: asked of the coordinator when an engine starts, kept in memory, never on disk.

An engine gets them in its environment: of its process alone, or in the spec that only the engines' user reads. What this agent
knows, it keeps out of its own log and events by value.
"""

from studio_agent.secrets.box import SecretBox, SecretUnavailableError, Wanted, wanted

__all__ = ["SecretBox", "SecretUnavailableError", "Wanted", "wanted"]
