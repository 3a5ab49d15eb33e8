"""Services: the choice of a backend, address translation at the client's host, and entries that were lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from node_agent.datapath.layout import DropReason, FlowKey, NatKind, WireType
from tests.datapath.conftest import VNI, roles
from tests.datapath.host import HZ, Endpoint, Host, ip_int, mapped
from tests.datapath.walk import Net, Walk

pytestmark = pytest.mark.root
Q, V, D = WireType.QUERY, WireType.VERDICT, WireType.DATA
VIP, PORT, TARGET = "10.10.200.1", 80, 8080
ANNA, BERT, CARL = "10.10.1.10", "10.10.1.20", "10.10.2.30"
REVALIDATE = 0x6D7A0100


def tcp(sport: int = 4000, flags: str = "S", vip: str = VIP) -> IP:
    return IP(src=ANNA, dst=vip) / TCP(sport=sport, dport=PORT, flags=flags) / b"hello"


def answer(walk: Walk, flags: str = "SA") -> IP:
    """What a backend's stack would send back to the packet it got."""
    got = IP(walk.frame[14:])
    layer = TCP if TCP in got else UDP
    back = layer(sport=got[layer].dport, dport=got[layer].sport, **({"flags": flags} if layer is TCP else {}))
    return IP(src=got.dst, dst=got.src) / back / b"world"


def checked(walk: Walk) -> IP:
    """The packet that was delivered; every sum in it is right."""
    got = IP(walk.frame[14:])
    fixed = IP(bytes(got))
    for layer in (IP, TCP, UDP):
        if layer in fixed:
            del fixed[layer].chksum
    assert bytes(IP(bytes(fixed))) == bytes(got)
    return got


@pytest.fixture
def net(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    """anna on host 1, bert on host 2, carl on host 3; the set is host 4; bert and carl stand behind the VIP."""
    net = roles(host, cast, {"anna": 1, "bert": 2, "carl": 3}, [4], {"10.10.1.0": [4], "10.10.2.0": [4]})
    serve(net, [(BERT, TARGET), (CARL, TARGET)])
    return net


def serve(net: Net, backends: list[tuple[str, int]], **more: object) -> None:
    for proto in (6, 17):
        net.hosts["198.18.0.14"].service(VNI, VIP, PORT, backends, proto=proto, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [TCP, UDP], ids=["tcp", "udp"])
def test_client_and_backend_see_each_others_proper_addresses(net: Net, make: type) -> None:
    sent = IP(src=ANNA, dst=VIP) / make(sport=4000, dport=PORT) / b"hello"
    walk = net.walk("anna", sent)
    assert walk.delivered in ("bert", "carl") and [t for _, t in walk.wire] == [Q, V, D]
    got = checked(walk)
    assert (got.src, got[make].sport, got[make].dport) == (ANNA, 4000, TARGET)
    back = net.walk(walk.delivered, answer(walk))
    assert back.delivered == "anna" and [t for _, t in back.wire] == [D]
    seen = checked(back)
    assert (seen.src, seen[make].sport, seen.dst, seen[make].dport) == (VIP, PORT, ANNA, 4000)


def test_later_packets_of_the_flow_go_direct_to_the_same_backend(net: Net) -> None:
    first = net.walk("anna", tcp())
    for flags in ("A", "PA", "FA"):
        walk = net.walk("anna", tcp(flags=flags))
        assert walk.wire == [("host-1", D)] and walk.delivered == first.delivered
        checked(walk)


def test_flows_spread_over_the_backends(net: Net) -> None:
    chosen = [net.walk("anna", tcp(sport)).delivered for sport in range(5000, 5060)]
    assert 15 <= chosen.count("bert") <= 45


def test_affinity_sends_a_client_to_one_backend(net: Net) -> None:
    serve(net, [(BERT, TARGET), (CARL, TARGET)], affinity=True)
    assert len({net.walk("anna", tcp(sport)).delivered for sport in range(5000, 5040)}) == 1


@pytest.mark.parametrize("near,far", [(1, 1), (1, 2), (2, 1), (3, 4), (4, 2)])
@pytest.mark.parametrize("home", [1, 2, 3])
def test_every_coincidence_of_roles_with_a_service(
    host: Callable[..., Host], cast: dict[str, Endpoint], near: int, far: int, home: int
) -> None:
    net = roles(host, cast, {"anna": 1, "carl": home}, sorted({near, far}), {"10.10.1.0": [near], "10.10.2.0": [far]})
    for number in {near, far}:
        net.hosts[f"198.18.0.{10 + number}"].service(VNI, VIP, PORT, [(CARL, TARGET)])
    for flags, back in (("S", "SA"), ("A", "A")):
        walk = net.walk("anna", tcp(flags=flags))
        assert walk.delivered == "carl"
        assert checked(walk)[TCP].dport == TARGET
        reply = net.walk("carl", answer(walk, back))
        assert reply.delivered == "anna"
        assert (checked(reply).src, checked(reply)[TCP].sport) == (VIP, PORT)


def test_endpoint_behind_its_own_vip_reaches_itself(net: Net) -> None:
    net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [(ANNA, TARGET)])
    walk = net.walk("anna", tcp())
    got = checked(Walk(frame=walk.frame))
    assert (got.src, got.dst, got[TCP].dport) == ("10.10.1.1", ANNA, TARGET)  # its gateway stands for it
    back = net.walk("anna", answer(walk))
    seen = checked(Walk(frame=back.frame))
    assert (seen.src, seen[TCP].sport, seen.dst, seen[TCP].dport) == (VIP, PORT, ANNA, 4000)


def test_two_vips_with_one_backend_and_one_client_port_are_two_flows(net: Net) -> None:
    other = "10.10.200.2"
    four = net.hosts["198.18.0.14"]
    four.service(VNI, VIP, PORT, [(BERT, TARGET)])
    four.service(VNI, other, PORT, [(BERT, TARGET)])
    first, second = net.walk("anna", tcp()), net.walk("anna", tcp(vip=other))
    assert IP(first.frame[14:])[TCP].sport == 4000 != checked(second)[TCP].sport
    for walk, vip in ((first, VIP), (second, other), (first, VIP)):
        seen = checked(net.walk("bert", answer(walk)))
        assert (seen.src, seen[TCP].dport) == (vip, 4000)


def test_direct_flow_and_vip_flow_from_one_port_are_two_flows(net: Net) -> None:
    net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [(BERT, TARGET)])
    plain = net.walk("anna", IP(src=ANNA, dst=BERT) / TCP(sport=4000, dport=TARGET))
    viped = net.walk("anna", tcp())
    assert checked(net.walk("bert", answer(plain))).src == BERT
    assert checked(net.walk("bert", answer(viped))).src == VIP


@pytest.mark.parametrize("make", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("bert,bouncer", [(2, 4), (1, 4), (2, 1), (1, 1)])
def test_direct_flow_beside_a_vip_flow_keeps_its_own_name(
    host: Callable[..., Host], cast: dict[str, Endpoint], make: type, bert: int, bouncer: int
) -> None:
    """The client's port is the service's flow's already: to the backend, the direct flow gets another one."""
    net = roles(host, cast, {"anna": 1, "bert": bert}, [bouncer], {"10.10.1.0": [bouncer]})
    proto = 6 if make is TCP else 17
    net.hosts[f"198.18.0.{10 + bouncer}"].service(VNI, VIP, PORT, [(BERT, TARGET)], proto=proto)
    direct = IP(src=ANNA, dst=BERT) / make(sport=4000, dport=TARGET) / b"direct"
    viped = net.walk("anna", IP(src=ANNA, dst=VIP) / make(sport=4000, dport=PORT) / b"viped")
    for mark in (0, 0, REVALIDATE, 0):
        beside = net.walk("anna", direct, mark)
        if mark:
            continue
        assert checked(viped)[make].sport == 4000 != checked(beside)[make].sport >= 61440
        for walk, name, port in ((beside, BERT, TARGET), (viped, VIP, PORT)):
            seen = checked(net.walk("bert", answer(walk)))
            assert (seen.src, seen[make].sport, seen.dst, seen[make].dport) == (name, port, ANNA, 4000)
    assert pair_of(net) == [NatKind.FORWARD] * 2 + [NatKind.REVERSE] * 2


def test_direct_flow_beside_a_vip_flow_is_confirmed_and_ended_like_any(net: Net, cast: dict[str, Endpoint]) -> None:
    net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [(BERT, TARGET)])
    net.walk("anna", tcp())
    direct = IP(src=ANNA, dst=BERT) / TCP(sport=4000, dport=TARGET, flags="A")
    net.walk("anna", direct)
    one = net.hosts["198.18.0.11"]
    (key,) = [k for k, n in one.nats(VNI).items() if n.kind == NatKind.FORWARD and n.dport == k.dport]
    old = one.nats(VNI)[key]
    one.put_nats(VNI, {key: replace(old, flow=(replace(old.flow[0], asked=1, unanswered=1),))})
    assert [t for _, t in net.walk("anna", direct, REVALIDATE).wire] == [Q, V]
    assert one.nats(VNI)[key].flow[0].asked == 0 and one.flows(VNI) == {}
    net.hosts["198.18.0.14"].forgets(cast["bert"])
    net.walk("anna", direct, REVALIDATE)
    assert key not in one.nats(VNI) and len(one.nats(VNI)) == 2


def test_service_without_backends_refuses_as_a_closed_port_would(
    net: Net, host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    for one, bouncer in ((net, "198.18.0.14"), (own_bouncer(host, cast), "198.18.0.31")):
        for proto in (6, 17):
            one.hosts[bouncer].service(VNI, VIP, PORT, [], proto=proto)
        reset = checked(one.walk("anna", tcp()))
        assert (reset.src, reset.dst, reset[TCP].sport, reset[TCP].dport) == (VIP, ANNA, PORT, 4000)
        assert (reset[TCP].flags, reset[TCP].ack, bytes(reset[TCP].payload)) == ("RA", 1, b"")
        middle = checked(one.walk("anna", tcp(sport=4001, flags="A")))
        assert middle[TCP].flags == "R"
        unreachable = IP(one.walk("anna", IP(src=ANNA, dst=VIP) / UDP(sport=4000, dport=PORT) / b"hello").frame[14:])
        assert (unreachable.src, unreachable.dst) == (VIP, ANNA)
        assert (unreachable[ICMP].type, unreachable[ICMP].code) == (3, 3)
        assert one.endpoints["anna"][0].maps.drops() == {(VNI, DropReason.NO_BACKEND): 3}


def test_vip_answers_ping_wherever_the_bouncer_is(
    net: Net, host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    ping = IP(src=ANNA, dst=VIP) / ICMP(id=3, seq=4) / b"ping"
    for one in (net, own_bouncer(host, cast)):
        walk = one.walk("anna", ping)
        got = IP(walk.frame[14:])
        assert (got.src, got.dst, got[ICMP].type, got[ICMP].seq) == (VIP, ANNA, 0, 4)
        fixed = IP(bytes(got))
        del fixed[ICMP].chksum
        assert IP(bytes(fixed))[ICMP].chksum == got[ICMP].chksum


def own_bouncer(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    net = roles(host, cast, {"anna": 21}, [21], {"10.10.1.0": [21]})
    net.hosts["198.18.0.31"].service(VNI, VIP, PORT, [(ANNA, TARGET)])
    return net


def pair_of(net: Net) -> list[int]:
    return sorted(n.kind for n in net.hosts["198.18.0.11"].nats(VNI).values())


def test_both_entries_of_a_pair_or_neither(net: Net) -> None:
    net.walk("anna", tcp())
    assert pair_of(net) == [NatKind.FORWARD, NatKind.REVERSE]


def test_lost_pair_at_the_client_heals_from_the_reply(net: Net) -> None:
    walk = net.walk("anna", tcp())
    net.hosts["198.18.0.11"].lose_nats(VNI)
    back = net.walk(walk.delivered, answer(walk))
    assert back.delivered == "anna" and checked(back).src == VIP
    assert pair_of(net) == [NatKind.FORWARD, NatKind.REVERSE]
    again = net.walk("anna", tcp(flags="A"))
    assert again.delivered == walk.delivered and again.wire == [("host-1", D)]


def test_lost_entry_at_the_backend_heals_from_the_clients_next_packet(net: Net) -> None:
    walk = net.walk("anna", tcp())
    home = net.endpoints[walk.delivered][0]
    forget(home)
    net.walk("anna", tcp(flags="A"))
    assert checked(net.walk(walk.delivered, answer(walk, "A"))).src == VIP


def forget(host: Host) -> None:
    host.maps.delete_flows(host.slots[VNI], [k.pack() for k in host.flows(VNI)])


def test_entries_lost_on_both_sides_never_show_the_backends_address(net: Net) -> None:
    walk = net.walk("anna", tcp())
    home = net.endpoints[walk.delivered][0]
    forget(home)
    net.hosts["198.18.0.11"].lose_nats(VNI)
    lost = net.walk(walk.delivered, answer(walk, "A"))
    assert lost.delivered == "" and lost.dropped == DropReason.UNKNOWN_REPLY
    again = net.walk("anna", tcp(flags="A"))
    assert again.delivered == walk.delivered  # the same backend, by the same hash
    assert checked(net.walk(walk.delivered, answer(walk, "A"))).src == VIP


def test_reply_to_a_changed_port_waits_for_the_client_to_say_its_own(net: Net) -> None:
    other = "10.10.200.2"
    for vip in (VIP, other):
        net.hosts["198.18.0.14"].service(VNI, vip, PORT, [(BERT, TARGET)])
    first, second = net.walk("anna", tcp()), net.walk("anna", tcp(vip=other))
    one = net.hosts["198.18.0.11"]
    one.lose_nats(VNI)
    lost = net.walk("bert", answer(second))
    assert (lost.delivered, lost.dropped) == ("", DropReason.UNKNOWN_REPLY) and one.nats(VNI) == {}
    net.walk("bert", answer(first))
    net.walk("anna", tcp(vip=other, flags="A"))
    for walk, vip in ((first, VIP), (second, other)):
        seen = checked(net.walk("bert", answer(walk)))
        assert (seen.src, seen[TCP].dport) == (vip, 4000)


def test_reply_heals_no_pair_whose_way_back_is_anothers(net: Net) -> None:
    net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [(BERT, TARGET)])
    walk = net.walk("anna", tcp())
    one = net.hosts["198.18.0.11"]
    one.lose_nats(VNI)
    plain = FlowKey(vni=VNI, src=mapped(ANNA), dst=mapped(BERT), sport=4000, dport=TARGET, proto=6)
    (learned,) = net.hosts["198.18.0.12"].flows(VNI).values()
    one.put_flows(VNI, {plain: replace(learned, owner_tag=learned.peer_tag, vip=0, vip_port=0)})
    lost = net.walk("bert", answer(walk))
    assert (lost.delivered, lost.dropped) == ("", DropReason.UNKNOWN_REPLY) and one.nats(VNI) == {}


def test_ports_of_an_ended_vip_flow_serve_a_direct_one(net: Net) -> None:
    net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [(BERT, TARGET)])
    net.walk("anna", tcp())
    net.hosts["198.18.0.11"].lose_nats(VNI)  # as if it had been idle for long; the backend's entry lives on
    seen = checked(net.walk("bert", answer(net.walk("anna", IP(src=ANNA, dst=BERT) / TCP(sport=4000, dport=TARGET)))))
    assert (seen.src, seen[TCP].sport, seen[TCP].dport) == (BERT, TARGET, 4000)


def test_syn_on_an_idle_pair_asks_anew(net: Net) -> None:
    first = net.walk("anna", tcp())
    other = "carl" if first.delivered == "bert" else "bert"
    serve(net, [(BERT if other == "bert" else CARL, TARGET)])
    assert net.walk("anna", tcp()).delivered == first.delivered  # a repeated SYN of the same connection
    idle(net.hosts["198.18.0.11"])
    assert net.walk("anna", tcp()).delivered == other
    assert pair_of(net) == [NatKind.FORWARD, NatKind.REVERSE]


def idle(host: Host) -> None:
    fd_rows = host.nats(VNI)
    host.put_nats(
        VNI,
        {
            k: replace(n, flow=(replace(n.flow[0], seen=(n.flow[0].seen - 3 * HZ) & 0xFFFFFFFF),))
            for k, n in fd_rows.items()
        },
    )


def test_revalidation_keeps_a_backend_that_still_serves(net: Net) -> None:
    walk = net.walk("anna", tcp())
    kept, other = (BERT, CARL) if walk.delivered == "bert" else (CARL, BERT)
    serve(net, [(other, TARGET)], serving=[(kept, TARGET)])
    asked = net.walk("anna", tcp(flags="A"), REVALIDATE)
    assert [t for _, t in asked.wire] == [Q, V] and pair_of(net) == [NatKind.FORWARD, NatKind.REVERSE]
    assert net.walk("anna", tcp(flags="A")).delivered == walk.delivered
    assert {net.walk("anna", tcp(p)).delivered for p in range(5000, 5020)} == {"bert" if other == BERT else "carl"}


def test_revalidation_ends_a_pair_whose_backend_is_gone(net: Net) -> None:
    walk = net.walk("anna", tcp())
    other = CARL if walk.delivered == "bert" else BERT
    serve(net, [(other, TARGET)])
    net.walk("anna", tcp(flags="A"), REVALIDATE)
    assert pair_of(net) == []


def test_data_of_a_services_flow_carries_the_vip_both_ways(net: Net) -> None:
    walk = net.walk("anna", tcp())
    for sender, packet in (("anna", tcp(flags="A")), (walk.delivered, answer(walk))):
        host, e = net.endpoints[sender]
        data = host.run("endpoint_tc", net.frame(sender, packet), e.port).data
        wire = data[14 + 28 :]
        assert wire[1] & 0x04  # NATed
        assert wire[8 + 6 : 8 + 12] == ip_int(VIP).to_bytes(4, "big") + PORT.to_bytes(2, "big")
