"""The outlet: the pair of devices through which endpoints of this host and the host's own stack talk (EGRESS).

    stack -- mizar0 == mizar1 -- transit program

The stack finds endpoints at one address, OUTLET_ADDRESS, behind `mizar0`; each flow has a port of it. What it sends
there arrives at `mizar1`, whose program hands it to the endpoint; what the program sends into `mizar1` the stack
receives on `mizar0`. A pair, since only where a program receives may it hand a packet straight into another namespace.
The address is nobody's own: the stack would refuse packets from an address of its own. Called by the agent.
"""

from __future__ import annotations

from pathlib import Path

from node_agent.kernel.links import Links
from node_agent.model.addresses import OUTLET_ADDRESS

STACK_SIDE, PROGRAM_SIDE = "mizar0", "mizar1"
STACK_MAC = "02:6d:7a:00:00:01"
"""As every gateway's: the programs give it to all that they send into the outlet."""
PROGRAM_MAC = "02:6d:7a:00:00:02"


def ensure(net: Links, own: Path, source: str, mtu: int) -> list[str]:
    """The pair with its address, route and neighbour, in the namespace at `own`, which is that of `net`; a sentence for
    each thing that was amiss. `source`: the host's own address towards endpoints. Raises Permanent, Temporary."""
    found = problems(net, source, mtu)
    if not found:
        return []
    net.ensure_veth(STACK_SIDE, peer_netns=own, peer=PROGRAM_SIDE, mtu=mtu, mac=STACK_MAC, peer_mac=PROGRAM_MAC)
    for side in (PROGRAM_SIDE, STACK_SIDE):
        net.ensure(side, up=True)
    net.ensure_neighbour(OUTLET_ADDRESS, PROGRAM_MAC, STACK_SIDE)
    net.ensure_link_route(f"{OUTLET_ADDRESS}/32", STACK_SIDE, source)
    return [f"outlet put right: {what}" for what in found]


def problems(net: Links, source: str, mtu: int) -> list[str]:
    """What differs from `ensure`'s work, one sentence each."""
    stack, program = net.get(STACK_SIDE), net.get(PROGRAM_SIDE)
    if stack is None or program is None or (stack.peer, program.peer) != (program.index, stack.index):
        return [f"{STACK_SIDE}: missing, or not joined to {PROGRAM_SIDE}"]
    found = [
        f"{link.name}: {what} {value} instead of {wanted}"
        for link, mac in ((stack, STACK_MAC), (program, PROGRAM_MAC))
        for what, value, wanted in (("MAC", link.mac, mac), ("MTU", link.mtu, mtu), ("up", link.up, True))
        if value != wanted
    ]
    if found:
        return found
    if net.neighbours(STACK_SIDE).get(OUTLET_ADDRESS) != PROGRAM_MAC:
        found.append(f"{STACK_SIDE}: {OUTLET_ADDRESS} is no neighbour of it")
    if net.way_to(OUTLET_ADDRESS) != (stack.index, source):
        found.append(f"{STACK_SIDE}: {OUTLET_ADDRESS} is not reached through it from {source}")
    return found


def remove(net: Links) -> list[str]:
    """No outlet; absent is success. Returns what was removed, one sentence each."""
    link = net.get(STACK_SIDE)
    if link is None or link.kind != "veth" or link.mac != STACK_MAC:
        return []
    net.delete(STACK_SIDE)
    return [f"outlet {STACK_SIDE} removed: nothing that endpoints may reach is this host's own"]
