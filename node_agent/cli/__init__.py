"""The command `mizar`: what a person asks a running stack. Reads the store and files; changes nothing."""
