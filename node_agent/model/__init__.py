"""Frozen records of the network's objects. No I/O here; every other package may import this one."""
