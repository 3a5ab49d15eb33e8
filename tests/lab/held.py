"""What the maps and devices of a test network's hosts hold, and what they should. Base of `network.Network`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from node_agent.datapath.layout import Counter, DropReason
from node_agent.datapath.maps import HostMaps
from node_agent.kernel import links
from node_agent.model.objects import NetworkEndpoint, NetworkService, Subnet, Vpc
from node_agent.model.places import StackPlaces, veth_name
from node_agent.rows import slots
from node_agent.rows.diff import PUT_ORDER
from node_agent.rows.endpoints import Port
from node_agent.rows.host import World, bounced
from node_agent.rows.image import MapImage
from node_agent.rows.vpcs import member
from node_agent.store.base import Store
from tests.whole import desired


class Held:
    """`hosts`: name -> underlay address."""

    def __init__(self, places: StackPlaces, store: Store) -> None:
        self.places, self.store = places, store
        self.hosts: dict[str, str] = {}

    def links(self, host: str) -> dict[str, int]:
        """Name -> ifindex of the host's interfaces."""
        with links.opened(self.places.netns_path(host)) as net:
            return {link.name: link.index for link in net.all()}

    @contextlib.contextmanager
    def maps(self, host: str) -> Iterator[HostMaps]:
        with HostMaps(self.places.host(host).maps) as maps:
            yield maps

    def dump(self, host: str) -> MapImage:
        """Every map that the agent writes, as bytes; what the programs write (flows, counters, ...) is not in it."""
        with self.maps(host) as maps:
            return {name: maps.read(name) for name in PUT_ORDER}

    def dumps(self) -> dict[str, MapImage]:
        return {name: self.dump(name) for name in self.hosts}

    def wanted(self, host: str) -> MapImage:
        """What the maps should hold by what is in the store now, `config` and `listed` apart. Computed by nothing that
        the agent remembers; only the numbers of flow tables and devices are read from the host."""
        vpcs = {obj.name: obj for obj in self.store.list(Vpc)}
        with self.maps(host) as maps:
            slot_of = slots.read(maps.read("vpcs"))
        with links.opened(self.places.netns_path(host)) as net:
            devices = {link.name: Port(link.index, link.queued) for link in net.all()}
        own = self.store.list(NetworkEndpoint, {"status.host": host})
        veths = {e.name: devices.get(veth_name(e.spec.container_id, e.spec.interface)) for e in own}
        world = World(
            host,
            vpcs,
            {obj.name: obj for obj in self.store.list(Subnet)},
            {obj.name: obj for obj in self.store.list(NetworkEndpoint)},
            {obj.name: obj for obj in self.store.list(NetworkService)},
            {name: port for name, port in veths.items() if port},
            slot_of,
        )
        divided = [name for name, vpc in vpcs.items() if member(vpc, host)]
        listed = [(kind, name) for name in divided for kind in (Vpc.kind, NetworkService.kind)]
        listed += [(Subnet.kind, name) for name in bounced(world)]
        image = desired(World(**{**vars(world), "listed": frozenset(listed)}))
        return {name: image.get(name, {}) for name in PUT_ORDER if name not in ("config", "listed")}

    def differences(self) -> list[str]:
        """Hosts and maps whose content is not what the store asks for."""
        found = []
        for host in self.hosts:
            have, want = self.dump(host), self.wanted(host)
            found += [f"{host}: {name}" for name, rows in want.items() if have[name] != rows]
        return found

    def counted(self, counter: Counter, of: Sequence[str] = ()) -> int:
        """Events counted on all hosts, or on those named."""
        total = 0
        for name in of or self.hosts:
            with self.maps(name) as maps:
                total += maps.counters().get(counter, 0)
        return total

    def dropped(self, host: str) -> dict[DropReason, int]:
        """Packets that the host dropped, by reason, over all VPCs."""
        found: dict[DropReason, int] = {}
        with self.maps(host) as maps:
            for (_, reason), number in maps.drops().items():
                found[reason] = found.get(reason, 0) + number
        return found

    def drops(self) -> dict[str, dict[DropReason, int]]:
        """`dropped` of every host that dropped any."""
        return {name: found for name in self.hosts if (found := self.dropped(name))}

    def forget_flows(self, host: str) -> None:
        """Empty the host's flow tables, as an LRU that is too small would."""
        with self.maps(host) as maps:
            for slot in maps.flow_tables():
                maps.delete_flows(slot, list(maps.read_flows(slot)))
