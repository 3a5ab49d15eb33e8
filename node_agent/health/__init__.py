"""Whether packets really flow: `probes` sends them, `pairs` and `assess` are pure, `gate` puts the three together.

On a cluster `inside` sends from within pods and `flows` looks into agents' tables; `workload` is who answers.
"""
