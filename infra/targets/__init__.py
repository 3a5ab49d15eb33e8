"""Who makes machines: one Target per kind of place, the only modules that know which."""
