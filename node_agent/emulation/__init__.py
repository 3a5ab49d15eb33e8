"""Hosts, their underlay and their workloads as network namespaces and small processes of one machine.

Each module is one resource with the verbs make / inspect / remove (processes: start / inspect / stop): make adopts what
a killed run left, inspect returns frozen data or None, remove of the absent succeeds. The Pulumi providers call them.
"""
