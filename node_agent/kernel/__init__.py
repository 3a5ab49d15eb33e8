"""Thin adapters over the kernel's network interfaces: the only importers of pyroute2 and the only callers of setns."""
