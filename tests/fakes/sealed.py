"""A master key for tests."""

from studio_coordinator.sealing import KEY_BYTES, MasterKey, Sealer

SEALER = Sealer((MasterKey(b"k" * KEY_BYTES),))
