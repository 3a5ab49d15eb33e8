"""Groups of resources: one frozen args object in, named and parented children, outputs as attributes."""
