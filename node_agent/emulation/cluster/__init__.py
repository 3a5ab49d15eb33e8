"""Emulated machines and what Kubernetes runs on them: the verbs make / inspect / remove of `node_agent.emulation`, one
module per thing. `machine` is the program of a machine, `machines` starts it; `node` and `control_plane` run on hosts.
"""
