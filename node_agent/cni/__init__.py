"""The endpoint protocol: what the CNI shim and the Pulumi program say to a host's warm agent."""
