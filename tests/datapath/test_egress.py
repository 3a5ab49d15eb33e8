"""Flows out of every VPC: who may go where, by which port of the host, and whom the answers find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.l2 import Ether

from node_agent.datapath.layout import Action, DropReason, EgressFlag, EgressRow, Limit, NatKind, WireType
from node_agent.model.addresses import OUTLET_ADDRESS
from tests.datapath.conftest import OTHER_VNI, VNI, roles
from tests.datapath.host import HZ, Endpoint, Host, ip_int
from tests.datapath.test_errors import after_one_hop, error, got_error
from tests.datapath.test_services import REVALIDATE, checked
from tests.datapath.test_trust import message
from tests.datapath.walk import GATEWAY_MAC, TC_REDIRECT, Net, Walk

pytestmark = pytest.mark.root
Q, V = WireType.QUERY, WireType.VERDICT
ANNA, EVE = "10.10.1.10", "10.10.1.20"
VIP, PORT = "10.96.0.1", 443
TARGET, TARGET_PORT = "198.18.0.40", 6443
OWN, TWIN_TAG = "198.18.0.11", 0x0A07
PROTOCOLS = {TCP: 6, UDP: 17}


def serve(host: Host, vni: int = VNI, target: str = TARGET, port: int = TARGET_PORT) -> None:
    for proto in PROTOCOLS.values():
        host.service(vni, VIP, PORT, [(target, port)], proto=proto, egress=True)


def lists(host: Host, target: str = TARGET, port: int = TARGET_PORT, local: bool = False) -> None:
    for proto in PROTOCOLS.values():
        host.lists(target, port, proto, local)


@pytest.fixture
def net(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    """anna on host 1; the set is host 4, whose service leads out, to where host 1 lets its endpoints go."""
    return going_out(host, cast, 4)


def going_out(host: Callable[..., Host], cast: dict[str, Endpoint], bouncer: int, xdp: bool = True) -> Net:
    net = roles(host, cast, {"anna": 1}, [bouncer], {"10.10.1.0": [bouncer]}, xdp)
    serve(net.hosts[f"198.18.0.{10 + bouncer}"])
    lists(net.hosts[OWN])
    return net


def packet(make: type = TCP, sport: int = 4000, **more: str) -> IP:
    return IP(src=ANNA, dst=VIP) / make(sport=sport, dport=PORT, **more) / b"hello"


def left(walk: Walk) -> IP:
    assert walk.left and walk.delivered == ""
    return checked(Walk(frame=walk.left))


def back(got: IP, control: str = "SA", **change: object) -> bytes:
    """The frame in which the target answers what it got. `control`: bits of a TCP header."""
    layer = TCP if TCP in got else UDP
    ends = {"sport": got[layer].dport, "dport": got[layer].sport} | ({"flags": control} if layer is TCP else {})
    addresses: dict[str, object] = {"src": got.dst, "dst": got.src}
    for name, value in change.items():
        (addresses if name in ("src", "dst", "ttl", "flags", "frag") else ends)[name] = value
    return bytes(Ether(dst="02:00:00:00:00:01") / IP(**addresses) / layer(**ends) / b"world")


@pytest.mark.parametrize("make", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("bouncer,xdp", [(4, True), (4, False), (1, True)])
def test_packets_leave_by_a_port_of_their_own_host_and_answers_find_the_client(
    host: Callable[..., Host], cast: dict[str, Endpoint], make: type, bouncer: int, xdp: bool
) -> None:
    net = going_out(host, cast, bouncer, xdp)
    first = net.walk("anna", packet(make))
    assert [t for _, t in first.wire] == ([Q, V] if bouncer != 1 else [])
    got = left(first)
    assert (got.src, got.dst, got[make].dport, got.ttl) == (OWN, TARGET, TARGET_PORT, 63)
    assert got[make].sport >= Limit.EGRESS_PORT_BASE
    again = net.walk("anna", packet(make))
    assert again.wire == [] and left(again)[make].sport == got[make].sport
    reply = net.arrive(net.hosts[OWN], back(got))
    assert reply.delivered == "anna"
    seen = checked(reply)
    assert (seen.src, seen[make].sport, seen.dst, seen[make].dport, seen.ttl) == (VIP, PORT, ANNA, 4000, 63)
    assert bytes(seen[make].payload) == b"world"


@pytest.mark.parametrize("make", [TCP, UDP], ids=["tcp", "udp"])
def test_the_host_itself_is_reached_through_its_outlet(net: Net, ports: list[int], make: type) -> None:
    one = net.hosts[OWN]
    one.configure(outlet=ports[5], outlet_address=ip_int(OUTLET_ADDRESS))
    serve(net.hosts["198.18.0.14"], target=OWN)
    lists(one, OWN, local=True)
    walk = net.walk("anna", packet(make))
    got = left(walk)
    assert (got.src, got.dst, got[make].dport) == (OUTLET_ADDRESS, OWN, TARGET_PORT)
    assert Ether(walk.left).dst == GATEWAY_MAC  # its stack takes it for its own
    assert net.arrive(one, back(got)).passed, "by the uplink nobody answers for that address"
    reply = net.emerge(one, back(got), ports[5])
    assert reply.delivered == "anna" and checked(reply).src == VIP


def test_without_an_outlet_the_host_itself_is_not_reached(net: Net) -> None:
    serve(net.hosts["198.18.0.14"], target=OWN)
    lists(net.hosts[OWN], OWN, local=True)
    assert net.walk("anna", packet()).dropped == DropReason.NO_CONFIG


@pytest.mark.parametrize(
    ("target", "port", "make"),
    [
        ("198.18.0.41", TARGET_PORT, TCP),
        (TARGET, 22, TCP),
        (OWN, TARGET_PORT, TCP),
        ("169.254.169.254", 80, TCP),
        ("127.0.0.1", 80, TCP),
        ("203.0.113.9", 443, TCP),
        (TARGET, Limit.WIRE_PORT, UDP),
        (OWN, Limit.WIRE_PORT, UDP),
    ],
)
def test_what_the_clients_host_does_not_list_is_forbidden_whatever_a_bouncer_says(
    net: Net, target: str, port: int, make: type
) -> None:
    serve(net.hosts["198.18.0.14"], target=target, port=port)
    walk = net.walk("anna", packet(make))
    assert (walk.dropped, walk.left) == (DropReason.EGRESS_FORBIDDEN, b"")
    one = net.hosts[OWN]
    assert one.maps.drops() == {(VNI, DropReason.EGRESS_FORBIDDEN): 1}
    assert one.egress() == {} and one.nats(VNI) == {}
    assert net.walk("anna", packet(make)).wire == [], "the refusal is remembered for a moment"


def test_a_listed_port_is_so_for_its_protocol_only(net: Net) -> None:
    one = net.hosts[OWN]
    one.unlists()
    one.lists(TARGET, TARGET_PORT, PROTOCOLS[TCP])
    assert net.walk("anna", packet(UDP)).dropped == DropReason.EGRESS_FORBIDDEN
    assert left(net.walk("anna", packet(TCP))).dst == TARGET


def test_the_underlay_has_no_address_in_a_vpc(net: Net) -> None:
    for dst, dport in ((TARGET, TARGET_PORT), (OWN, Limit.WIRE_PORT), (OUTLET_ADDRESS, Limit.EGRESS_PORT_BASE)):
        walk = net.walk("anna", IP(src=ANNA, dst=dst) / UDP(sport=4000, dport=dport) / b"hello")
        assert walk.dropped == DropReason.UNKNOWN_DESTINATION


def twin(net: Net, cast: dict[str, Endpoint], ports: list[int]) -> None:
    """Of another VPC with the same addresses, an endpoint on the same host, with anna's."""
    one, four = net.hosts[OWN], net.hosts.get("198.18.0.14", net.hosts[OWN])
    other = replace(cast["anna"], name="twin", vni=OTHER_VNI, tag=TWIN_TAG, port=ports[4])
    net.place(other, one)
    for each in (one, four):
        each.vpc(OTHER_VNI, [four.address])
        each.subnet(OTHER_VNI, "10.10.1.0", 1)
    four.route(OTHER_VNI, "10.10.1.0", 24)
    four.knows(other, OWN)
    four.serve(OTHER_VNI, "10.10.1.0")
    four.serve(OTHER_VNI)
    for proto in PROTOCOLS.values():
        four.service(OTHER_VNI, VIP, PORT, [(TARGET, TARGET_PORT)], proto=proto, egress=True)


@pytest.mark.parametrize("make", [TCP, UDP], ids=["tcp", "udp"])
def test_equal_addresses_and_ports_of_two_vpcs_are_two_flows(
    net: Net, cast: dict[str, Endpoint], ports: list[int], make: type
) -> None:
    twin(net, cast, ports)
    for sport in range(4000, 4040):
        mine, others = left(net.walk("anna", packet(make, sport))), left(net.walk("twin", packet(make, sport)))
        assert mine[make].sport != others[make].sport
        for name, got in (("twin", others), ("anna", mine)):
            reply = net.arrive(net.hosts[OWN], back(got))
            assert reply.delivered == name and checked(reply)[make].dport == sport


def test_only_the_peer_of_a_flow_answers_to_its_port(net: Net) -> None:
    got = left(net.walk("anna", packet(UDP)))
    for wrong in (
        back(got, src="198.18.0.41"),
        back(got, sport=TARGET_PORT + 1),
        back(got, dport=got[UDP].sport ^ 1),
        bytes(Ether() / IP(src=TARGET, dst=OWN) / TCP(sport=TARGET_PORT, dport=got[UDP].sport)),
    ):
        walk = net.arrive(net.hosts[OWN], wrong)
        assert walk.passed and walk.frame == wrong, "it is the machine's own, as it came"
    assert net.hosts[OWN].maps.drops() == {}


def test_what_the_hosts_stack_sends_to_no_flow_is_dropped_by_name(net: Net, ports: list[int]) -> None:
    one = net.hosts[OWN]
    one.configure(outlet=ports[5], outlet_address=ip_int(OUTLET_ADDRESS))
    stray = bytes(Ether() / IP(src=OWN, dst=OUTLET_ADDRESS) / UDP(sport=53, dport=62000) / b"hello")
    assert net.emerge(one, stray, ports[5]).dropped == DropReason.UNKNOWN_REPLY
    assert one.maps.drops() == {(0, DropReason.UNKNOWN_REPLY): 1}


@pytest.mark.parametrize(
    "own",
    [
        IP(src=TARGET, dst=OWN) / TCP(sport=TARGET_PORT, dport=40000, flags="A") / b"data",
        IP(src=TARGET, dst=OWN) / TCP(sport=40000, dport=62000, flags="S"),
        IP(src=TARGET, dst=OWN) / UDP(sport=53, dport=62000) / b"x",
        IP(src=TARGET, dst=OWN) / ICMP() / b"ping",
        IP(src=TARGET, dst=OWN, frag=100, proto=17) / b"tail",
        IP(src=TARGET, dst="198.18.0.12") / TCP(sport=TARGET_PORT, dport=62000),
        IP(src=TARGET, dst=OWN, proto=132) / b"else",
    ],
)
def test_the_machines_own_traffic_is_left_as_it_came(net: Net, own: IP) -> None:
    net.walk("anna", packet())
    frame = bytes(Ether(dst="02:00:00:00:00:01") / own)
    walk = net.arrive(net.hosts[OWN], frame)
    assert walk.passed and walk.frame == frame and net.hosts[OWN].maps.drops() == {}


@pytest.mark.parametrize("make,code,quote", [(UDP, 3, 28), (TCP, 4, 28), (TCP, 4, 40)])
def test_errors_about_a_flow_reach_its_client_about_what_it_sent(net: Net, make: type, code: int, quote: int) -> None:
    there = net.walk("anna", packet(make)).left[14:]
    walk = net.arrive(net.hosts[OWN], bytes(Ether() / error(there, code, quote)))
    assert walk.delivered == "anna"
    told, quoted = got_error(walk, quote)
    assert (told.src, told.dst, told[ICMP].type, told[ICMP].code) == (VIP, ANNA, 3, code)
    assert quoted == after_one_hop(packet(make))[:quote]


def test_errors_of_the_client_reach_the_peer_about_what_that_sent(net: Net) -> None:
    got = left(net.walk("anna", packet(UDP)))
    came = back(got)
    reply = net.arrive(net.hosts[OWN], came)
    walk = net.walk("anna", error(reply.frame[14:]))
    assert walk.left
    told, quoted = got_error(Walk(frame=walk.left))
    assert (told.src, told.dst) == (OWN, TARGET)
    assert quoted == after_one_hop(IP(came[14:]))[:28]


def test_errors_about_no_flow_are_the_machines(net: Net) -> None:
    there = net.walk("anna", packet(UDP)).left[14:]
    other = IP(there)
    other[UDP].sport ^= 1
    frame = bytes(Ether() / error(bytes(other)))
    assert net.arrive(net.hosts[OWN], frame).passed
    quoting = IP(src=ANNA, dst=VIP) / ICMP(type=3, code=3) / bytes(IP(src=VIP, dst=ANNA) / UDP(sport=PORT, dport=1))
    assert net.walk("anna", quoting).dropped == DropReason.ICMP_ERROR_NO_FLOW


def test_the_vip_answers_ping(net: Net) -> None:
    walk = net.walk("anna", IP(src=ANNA, dst=VIP) / ICMP(id=3, seq=4) / b"ping")
    got = IP(walk.frame[14:])
    assert (got.src, got.dst, got[ICMP].type) == (VIP, ANNA, 0)


def test_a_lost_entry_is_found_again_with_the_port_that_it_had(net: Net) -> None:
    one = net.hosts[OWN]
    got = left(net.walk("anna", packet()))
    one.lose_nats(VNI)
    assert net.arrive(one, back(got)).delivered == "anna", "the way back does not need it"
    again = net.walk("anna", packet(flags="A"))
    assert [t for _, t in again.wire] == [Q, V] and left(again)[TCP].sport == got[TCP].sport
    assert len(one.egress()) == 1


@pytest.mark.parametrize("field", ["vni", "endpoint", "vip", "port", "vip_port", "tag"])
def test_an_entry_whose_port_is_anothers_is_not_used(net: Net, field: str) -> None:
    one = net.hosts[OWN]
    net.walk("anna", packet())
    ((key, row),) = one.egress().items()
    others = replace(row, **{field: getattr(row, field) ^ 2}, flags=EgressFlag.ANSWERED)
    one.put_egress({key: others})
    again = net.walk("anna", packet(flags="A"))
    assert [t for _, t in again.wire] == [Q, V]
    assert left(again)[TCP].sport != key.own_port
    assert one.egress()[key] == others


def test_fragments_go_neither_out_nor_in(net: Net) -> None:
    got = left(net.walk("anna", packet(UDP)))
    first = IP(src=ANNA, dst=VIP, flags="MF", id=7) / UDP(sport=4000, dport=PORT, len=2000) / bytes(64)
    assert net.walk("anna", first).dropped == DropReason.EGRESS_FRAGMENT
    rest = IP(src=ANNA, dst=VIP, frag=9, id=7, proto=17) / bytes(64)
    assert net.walk("anna", rest).dropped == DropReason.EGRESS_FRAGMENT
    assert net.arrive(net.hosts[OWN], back(got, flags="MF")).dropped == DropReason.EGRESS_FRAGMENT


def test_ip_options_do_not_lead_elsewhere(net: Net) -> None:
    routed = IP(src=ANNA, dst=VIP, options=[IPOption_NOP()] * 4) / TCP(sport=4000, dport=PORT)
    assert net.walk("anna", routed).dropped == DropReason.EGRESS_FORBIDDEN


def test_an_answer_whose_time_to_live_ends_is_dropped_by_name(net: Net) -> None:
    got = left(net.walk("anna", packet()))
    assert net.arrive(net.hosts[OWN], back(got, ttl=1)).dropped == DropReason.TTL


def test_an_old_entry_is_asked_about_and_stays_or_goes(net: Net) -> None:
    one, four = net.hosts[OWN], net.hosts["198.18.0.14"]
    net.walk("anna", packet())
    ((key, entry),) = one.nats(VNI).items()
    assert entry.kind == NatKind.FORWARD | NatKind.EGRESS
    one.put_nats(VNI, {key: replace(entry, flow=(replace(entry.flow[0], asked=1, unanswered=1),))})
    assert [t for _, t in net.walk("anna", packet(flags="A"), REVALIDATE).wire] == [Q, V]
    assert one.nats(VNI)[key].flow[0].asked == 0
    for proto in PROTOCOLS.values():
        four.service(VNI, VIP, PORT, [("198.18.0.41", TARGET_PORT)], proto=proto, egress=True)
    net.walk("anna", packet(flags="A"), REVALIDATE)
    assert one.nats(VNI) == {}


def test_what_is_listed_no_more_ends_when_it_is_asked_about(net: Net) -> None:
    one = net.hosts[OWN]
    net.walk("anna", packet())
    one.unlists()
    net.walk("anna", packet(flags="A"), REVALIDATE)
    assert one.nats(VNI) == {}
    assert net.walk("anna", packet(flags="A")).dropped == DropReason.EGRESS_FORBIDDEN


def test_an_answer_to_an_endpoint_that_is_gone_is_the_machines(net: Net, cast: dict[str, Endpoint]) -> None:
    one = net.hosts[OWN]
    got = left(net.walk("anna", packet()))
    one.loses(cast["anna"])
    assert net.arrive(one, back(got)).passed and one.egress() == {}


def test_an_answer_to_another_under_the_same_address_is_the_machines(net: Net, cast: dict[str, Endpoint]) -> None:
    one = net.hosts[OWN]
    got = left(net.walk("anna", packet()))
    one.holds(replace(cast["anna"], tag=0x0A0B))
    assert net.arrive(one, back(got)).passed and one.egress() == {}


def fill(net: Net, name: str, make: type, number: int, control: str = "SA") -> list[bytes]:
    """So many flows, whose answers come at once; the frames that left. The bouncer is the host itself."""
    host, e = net.endpoints[name]
    found = []
    for sport in range(10000, 10000 + number):
        result = host.run("endpoint_tc", net.frame(name, packet(make, sport)), e.port)
        if result.code == TC_REDIRECT:
            found.append(result.data)
            host.run("transit_tc", back(IP(result.data[14:]), control), 1)
    return found


@pytest.fixture
def alone(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    """As `net`, without another host."""
    return going_out(host, cast, 1)


def test_one_endpoint_cannot_have_all_ports(alone: Net, cast: dict[str, Endpoint], ports: list[int]) -> None:
    one = alone.hosts[OWN]
    number = 2 * Limit.EGRESS_ENDPOINT_PORTS
    went = len(fill(alone, "anna", TCP, number))
    assert 200 <= went == len(one.egress()) <= Limit.EGRESS_ENDPOINT_PORTS
    assert one.maps.drops() == {(VNI, DropReason.NAT_CLASH): number - went}
    twin(alone, cast, ports)
    assert len(fill(alone, "twin", TCP, 20)) == 20


def test_ports_of_ended_flows_are_used_again(alone: Net) -> None:
    one = alone.hosts[OWN]
    fill(alone, "anna", TCP, 2 * Limit.EGRESS_ENDPOINT_PORTS)
    assert alone.walk("anna", packet(sport=9999)).dropped == DropReason.NAT_CLASH
    ago = 11 * HZ
    ended = {
        key: replace(row, flags=row.flags | EgressFlag.CLOSING, seen=(row.seen - ago) & 0xFFFFFFFF)
        for key, row in one.egress().items()
    }
    one.put_egress(ended)
    sport = left(alone.walk("anna", packet(sport=9999)))[TCP].sport
    taken = {key.own_port: row for key, row in one.egress().items()}
    assert taken[sport].port == 9999


def test_answered_datagrams_make_room_for_the_endpoints_next(alone: Net) -> None:
    number = 2 * Limit.EGRESS_ENDPOINT_PORTS
    assert len(fill(alone, "anna", UDP, number)) == number
    assert len(alone.hosts[OWN].egress()) <= Limit.EGRESS_ENDPOINT_PORTS


def test_connections_that_close_make_room_for_the_endpoints_next_after_a_moment(alone: Net) -> None:
    one = alone.hosts[OWN]
    ports = Limit.EGRESS_ENDPOINT_PORTS
    assert len(fill(alone, "anna", TCP, 2 * ports, control="FA")) <= ports, "stragglers may be on their way"
    one.configure(pending=0)
    rows = {key: replace(row, seen=(row.seen - 1) & 0xFFFFFFFF) for key, row in one.egress().items()}
    one.put_egress(rows)
    assert left(alone.walk("anna", packet(sport=9999)))
    assert len(one.egress()) <= ports


def test_a_flow_that_nobody_answered_does_not_keep_its_port_for_long(net: Net) -> None:
    one = net.hosts[OWN]
    net.walk("anna", packet())
    ((key, row),) = one.egress().items()
    assert row.flags == 0
    one.put_egress({key: replace(row, seen=(row.seen - 11 * HZ) & 0xFFFFFFFF)})
    assert net.arrive(one, back(IP(src=OWN, dst=TARGET) / TCP(sport=key.own_port, dport=TARGET_PORT))).passed
    assert left(net.walk("anna", packet()))[TCP].sport == key.own_port, "its own it may have back"


def test_a_row_is_never_taken_while_it_lives(net: Net, cast: dict[str, Endpoint], ports: list[int]) -> None:
    """Whatever the ports of an endpoint hold of others', it goes on beside them."""
    one = net.hosts[OWN]
    twin(net, cast, ports)
    got = left(net.walk("anna", packet()))
    ((key, _),) = one.egress().items()
    one.lose_nats(VNI)
    now = next(iter(one.egress().values())).seen
    others = EgressRow(
        vni=OTHER_VNI, endpoint=ip_int(ANNA), vip=ip_int(VIP), port=1, vip_port=PORT, seen=now, tag=TWIN_TAG,
        flags=EgressFlag.ANSWERED,
    )  # fmt: skip
    one.put_egress({key: others})
    assert left(net.walk("anna", packet()))[TCP].sport != got[TCP].sport
    assert one.egress()[key] == others


def test_what_fits_the_uplink_leaves_though_it_would_not_fit_the_tunnel(net: Net) -> None:
    big = IP(src=ANNA, dst=VIP, flags="DF") / TCP(sport=4000, dport=PORT, flags="A") / bytes(1440)
    net.walk("anna", packet())
    assert len(left(net.walk("anna", big))) == 1480


def test_super_packets_leave_and_come_back_whole(net: Net) -> None:
    one = net.hosts[OWN]
    got = left(net.walk("anna", packet()))
    anna = net.endpoints["anna"][1]
    large = IP(src=ANNA, dst=VIP) / TCP(sport=4000, dport=PORT, flags="A") / bytes(2800)
    result = one.run("endpoint_tc", net.frame("anna", large), anna.port, segment=1400)
    assert result.code == TC_REDIRECT and IP(result.data[14:])[TCP].sport == got[TCP].sport
    answer = Ether() / IP(src=TARGET, dst=OWN) / TCP(sport=TARGET_PORT, dport=got[TCP].sport, flags="A") / bytes(2800)
    result = one.run("transit_tc", bytes(answer), 1, segment=1400)
    assert result.code == TC_REDIRECT and IP(result.data[14:]).src == VIP


def test_a_verdict_to_leave_counts_only_from_the_vpc_set(net: Net) -> None:
    for sender, code in (("198.18.0.66", DropReason.UNTRUSTED), ("198.18.0.14", None)):
        frame = message(V, sender, OWN, packet(), action=Action.EGRESS, backend=(TARGET, TARGET_PORT))
        walk = net.arrive(net.hosts[OWN], frame)
        assert walk.dropped == code and bool(walk.left) == (code is None)
