"""The command `mizar`: what a person asks a running stack. Reads the store, files and maps; only `rebalance` writes."""
