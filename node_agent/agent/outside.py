"""What a host has for flows of its endpoints to addresses outside of every VPC (EGRESS). Called by `kernel`.

Ports that its own programs leave alone; and, where an address that endpoints may reach is the host's own, an outlet to
its own stack. Where nothing is listed there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node_agent.datapath.layout import Limit
from node_agent.kernel import outlet, ports
from node_agent.kernel.links import Links
from node_agent.kernel.netns import OWN
from node_agent.model.config import AgentConfig

LAST_PORT = 65535


@dataclass(frozen=True)
class Outlet:
    """What the programs are told. `ifindex`: of the program's side, 0 for none; `own`: addresses of this host that
    endpoints may reach, sorted."""

    ifindex: int = 0
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outside:
    """Of the namespace at `path` (None: the process's own), a session in which is handed to the verbs."""

    config: AgentConfig
    path: Path | None = None

    def outlet(self, net: Links) -> Outlet:
        """As it is now."""
        own = self._own(net)
        return Outlet((net.index(outlet.PROGRAM_SIDE) if own else None) or 0, own)

    def devices(self, net: Links) -> tuple[str, ...]:
        """Where the transit program belongs, besides the uplink."""
        return (outlet.PROGRAM_SIDE,) if self._own(net) else ()

    def ensure(self, net: Links, mtu: int) -> list[str]:
        """All of it; a sentence for each thing that was amiss. `mtu`: the uplink's. Raises Permanent, Temporary."""
        done = ports.ensure(self.path, Limit.EGRESS_PORT_BASE, LAST_PORT) if self.config.listed else []
        if self._own(net):
            return done + outlet.ensure(net, self.path or OWN, self.config.address, mtu)
        return done + outlet.remove(net)

    def problems(self, net: Links, mtu: int) -> list[str]:
        """What `ensure` would put right, one sentence each."""
        found = ports.problems(self.path, Limit.EGRESS_PORT_BASE, LAST_PORT) if self.config.listed else []
        return found + (outlet.problems(net, self.config.address, mtu) if self._own(net) else [])

    def _own(self, net: Links) -> tuple[str, ...]:
        listed = {each.address for each in self.config.listed}
        return tuple(sorted(listed & net.own_addresses())) if listed else ()
