"""Engine drivers: one file for each engine, behind the protocol of `base`."""
