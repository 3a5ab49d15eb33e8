"""The endpoint protocol: what the Pulumi program, like a CNI plugin, says to a host's warm agent."""
