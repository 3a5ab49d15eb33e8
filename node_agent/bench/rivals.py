"""What Mizar is held against, on the same fabric: overlays that the kernel has, wired by hand as an expert would.

    vxlan      a VXLAN device and a bridge on each host, static FDB and neighbours: no learning, no flooding, no ARP
    metadata   a VXLAN device in metadata mode, TC programs that look the host up, redirect_peer into the endpoint
    host       no overlay: between the very hosts of `vxlan`, whose uplinks carry no program

Every device gets the offloads that Mizar's get. Called by `run`; `bed.made` removes all of it with the stack.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from node_agent.bench.bed import Bed
from node_agent.bench.figures import HOST, METADATA, VXLAN
from node_agent.bench.frames import Frames, Peer
from node_agent.bench.pairs import End, Pair
from node_agent.emulation import endpoints, fabric, hosts
from node_agent.kernel import features, filters, links, netns
from node_agent.model.addresses import POD_GATEWAY
from node_agent.model.places import StackPlaces

MTU = 1450
VNI = 77
PORT = "pod0"  # host side of an endpoint's veth
TUNNEL, BRIDGE = "vx0", "br0"


class Wire:
    """Two hosts of the fabric with an endpoint each; `kind` begins their names. `first`: last byte of an address."""

    def __init__(self, places: StackPlaces, kind: str, first: int) -> None:
        self.places, self.kind = places, kind
        self.hosts = (f"{kind}-1", f"{kind}-2")
        self.pods = (f"{kind}-sender", f"{kind}-receiver")
        self.underlay = (f"198.18.0.{first}", f"198.18.0.{first + 1}")
        self.overlay = (f"10.99.{first}.1", f"10.99.{first}.2")
        for host, pod, address in zip(self.hosts, self.pods, self.underlay, strict=True):
            hosts.make(places, hosts.Spec(name=host, address=f"{address}/24"))
            with links.opened(places.netns_path(host)) as net:
                net.delete(hosts.GRO_DEVICE)  # the rival's own device holds the tunnel port
            self._endpoint(host, pod)
        self.macs = (self._mac(0), self._mac(1))
        for i, host in enumerate(self.hosts):
            mac = hosts.uplink_mac(places, self.hosts[1 - i])
            ip(places, host, [f"neigh replace {self.underlay[1 - i]} lladdr {mac} dev {hosts.UPLINK} nud permanent"])

    def end(self, i: int) -> End:
        return End(self.places.netns_path(self.pods[i]), endpoints.INTERFACE, self.overlay[i], self.macs[i])

    def port_mac(self, i: int) -> str:
        with links.opened(self.places.netns_path(self.hosts[i])) as net:
            return net.need(PORT).mac

    def _endpoint(self, host: str, pod: str) -> None:
        endpoints.make(self.places, pod)
        inside = self.places.netns_path(pod)
        with links.opened(self.places.netns_path(host)) as net, links.opened(inside) as there:
            net.ensure_veth(PORT, peer_netns=inside, peer=endpoints.INTERFACE, mtu=MTU)
            features.ensure(net, PORT, features.GRO)
            features.ensure(there, endpoints.INTERFACE, features.GRO)
            there.ensure(endpoints.INTERFACE, up=True)
            net.ensure(PORT, up=True)

    def _mac(self, i: int) -> str:
        with links.opened(self.places.netns_path(self.pods[i])) as net:
            return net.need(endpoints.INTERFACE).mac


def vxlan(bed: Bed) -> tuple[Pair, Pair]:
    """The pairs of `vxlan` and of `host`."""
    wire, places = Wire(bed.places, "vxlan", 21), bed.places
    for i, host in enumerate(wire.hosts):
        far, mac = wire.underlay[1 - i], wire.macs[1 - i]
        fabric.unfilter(places.netns_path(host))
        ip(places, host, [
            f"link add {TUNNEL} type vxlan id {VNI} local {wire.underlay[i]} dstport {hosts.TUNNEL_PORT} nolearning",
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0",
            f"link set {TUNNEL} mtu {MTU} master {BRIDGE} up",
            f"link set {PORT} master {BRIDGE}",
            f"link set {BRIDGE} up",
        ])  # fmt: skip
        lines = [f"fdb add {mac} dev {TUNNEL} dst {far} self permanent", f"fdb add {mac} dev {TUNNEL} master static"]
        netns.run_in(places.netns_path(host), ["bridge", "-batch", "-"], 10.0, stdin="\n".join(lines) + "\n")
        ip(places, wire.pods[i], [
            f"addr add {wire.overlay[i]}/24 dev {endpoints.INTERFACE}",
            f"neigh replace {wire.overlay[1 - i]} lladdr {mac} dev {endpoints.INTERFACE} nud permanent",
        ])  # fmt: skip
    below = [
        End(places.netns_path(host), hosts.UPLINK, wire.underlay[i], hosts.uplink_mac(places, host))
        for i, host in enumerate(wire.hosts)
    ]
    return (
        Pair(VXLAN, "kernel VXLAN + bridge", wire.end(0), wire.end(1), wire.macs[1]),
        Pair(HOST, "host to host, no overlay", below[0], below[1], below[1].mac),
    )


def metadata(bed: Bed) -> Pair:
    """The pair of `metadata`; its programs stay with their devices."""
    wire, places = Wire(bed.places, "meta", 31), bed.places
    for i, host in enumerate(wire.hosts):
        ip(places, host, [
            f"link add {TUNNEL} type vxlan external dstport {hosts.TUNNEL_PORT} nolearning",
            f"link set {TUNNEL} mtu {MTU} up",
        ])  # fmt: skip
        with links.opened(places.netns_path(wire.pods[i])) as pod:
            pod.ensure_address(endpoints.INTERFACE, f"{wire.overlay[i]}/32")
            pod.ensure_pod_routes(endpoints.INTERFACE)
        neighbour = f"neigh replace {POD_GATEWAY} lladdr {wire.port_mac(i)} dev {endpoints.INTERFACE}"
        ip(places, wire.pods[i], [f"{neighbour} nud permanent"])
        with Frames(bed.programs) as programs, links.opened(places.netns_path(host)) as net:
            far = Peer(remote=int(ipaddress.IPv4Address(wire.underlay[1 - i])))
            programs.know(
                {wire.overlay[i]: Peer(device=net.need(PORT).index, mac=wire.macs[i]), wire.overlay[1 - i]: far}
            )
            programs.configure(out=net.need(TUNNEL).index, vni=VNI)
            filters.attach(net, PORT, "ingress", programs.program("rival_out"), "rival_out")
            filters.attach(net, TUNNEL, "ingress", programs.program("rival_in"), "rival_in")
    return Pair(METADATA, "TC + VXLAN in metadata mode", wire.end(0), wire.end(1), wire.port_mac(0))


def ip(places: StackPlaces, name: str, lines: Sequence[str]) -> None:
    """Commands of ip(8) in the namespace of that name, all or an error. Raises CommandError."""
    netns.run_in(places.netns_path(name), ["ip", "-batch", "-"], 10.0, stdin="\n".join(lines) + "\n")
