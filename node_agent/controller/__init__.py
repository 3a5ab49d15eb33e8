"""Placement, VNIs and garbage: the one writer of Vpc and Subnet status. Packets flow without it."""
