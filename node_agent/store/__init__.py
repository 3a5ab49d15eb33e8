"""Where the objects live. `base` is the contract; `sqlite` keeps it on one machine, `kubernetes` in a cluster."""
