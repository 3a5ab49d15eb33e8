"""Everything that runs on a host or beside the cluster: agent, controller, CNI, probes, and what they share."""
