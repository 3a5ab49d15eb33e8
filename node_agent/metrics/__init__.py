"""What an agent and the controller say of themselves in figures, in Prometheus' text format on a unix socket."""
