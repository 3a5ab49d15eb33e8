"""Measures the local stack beside the ways the kernel alone has to do the same, on this machine: `make bench`."""
