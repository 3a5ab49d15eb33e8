"""Whether packets really flow: `probes` sends them, `pairs` and `assess` are pure, `gate` puts the three together."""
