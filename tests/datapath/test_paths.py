"""The ways of a packet between endpoints: query, verdict, direct path, learned reply; every coincidence of roles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from node_agent.datapath.layout import DropReason, FlowFlag, FlowKey, WireType
from tests.datapath.conftest import VNI, roles
from tests.datapath.host import Endpoint, Host, ip_int, mapped
from tests.datapath.walk import Net

pytestmark = pytest.mark.root
Q, V, D, N = WireType.QUERY, WireType.VERDICT, WireType.DATA, WireType.NOT_HERE


def udp(cast: dict[str, Endpoint], a: str, b: str, sport: int = 4000, dport: int = 53, size: int = 8) -> IP:
    return IP(src=cast[a].address, dst=cast[b].address) / UDP(sport=sport, dport=dport) / (b"x" * size)


def flow(cast: dict[str, Endpoint], a: str, b: str, sport: int = 4000, dport: int = 53) -> FlowKey:
    return FlowKey(
        vni=VNI, src=mapped(cast[a].address), dst=mapped(cast[b].address), sport=sport, dport=dport, proto=17
    )


def test_first_packet_is_a_query_the_next_goes_direct(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    first = three_hosts.walk("anna", udp(cast, "anna", "bert"))
    assert first.delivered == "bert"
    asked = [t for _, t in first.wire]
    assert asked in ([Q, V, D], [D], [V, D])  # by the flow's hash the bouncer may be anna's or bert's own host
    second = three_hosts.walk("anna", udp(cast, "anna", "bert"))
    assert second.wire == [("host-1", D)] and second.delivered == "bert"


def test_payload_arrives_unchanged_but_for_one_router_hop(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    sent = udp(cast, "anna", "carl", size=700)
    sent.ttl, sent.tos = 17, 0xB8
    for _ in range(2):
        got = IP(three_hosts.walk("anna", sent).frame[14:])
        want = IP(bytes(sent))
        want.ttl = 16
        del want.chksum
        assert bytes(got) == bytes(want)


def test_reply_needs_no_query(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    three_hosts.walk("anna", udp(cast, "anna", "bert"))
    reply = three_hosts.walk("bert", udp(cast, "bert", "anna", 53, 4000))
    assert reply.wire == [("host-2", D)] and reply.delivered == "anna"


def test_entries_say_who_asked_and_who_learned(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    three_hosts.walk("anna", udp(cast, "anna", "bert"))
    one, two = three_hosts.hosts["198.18.0.11"], three_hosts.hosts["198.18.0.12"]
    asked = one.flows(VNI)[flow(cast, "anna", "bert")]
    learned = two.flows(VNI)[flow(cast, "bert", "anna", 53, 4000)]
    assert asked.flags == FlowFlag.ASKED and asked.host == ip_int("198.18.0.12")
    assert (asked.peer_tag, asked.owner_tag) == (cast["bert"].tag, cast["anna"].tag)
    assert learned.flags == FlowFlag.LEARNED and learned.host == ip_int("198.18.0.11")
    assert (learned.peer_tag, learned.owner_tag) == (cast["anna"].tag, cast["bert"].tag)


@pytest.mark.parametrize("xdp", [True, False], ids=["xdp", "tc-only"])
@pytest.mark.parametrize("asker,near,far,target", sorted(set(itertools.product([1], [1, 2], [1, 2, 3], [1, 2, 3, 4]))))
def test_every_coincidence_of_asker_bouncers_and_target(
    host: Callable[..., Host], cast: dict[str, Endpoint], asker: int, near: int, far: int, target: int, xdp: bool
) -> None:
    """`near` bounces anna's subnet, `far` carl's; they, anna's host and carl's may be one host or four."""
    net = roles(
        host, cast, {"anna": asker, "carl": target}, sorted({near, far}), {"10.10.1.0": [near], "10.10.2.0": [far]}, xdp
    )
    walk = net.walk("anna", udp(cast, "anna", "carl"))
    assert walk.delivered == "carl"
    # Only steps to another host go on the wire, and at most three legs bring the verdict.
    legs = [t for t in walk.wire if t[1] != D]
    path = [asker, near, far, asker] if near != far else [asker, near, asker]
    assert len(legs) == sum(a != b for a, b in itertools.pairwise(path))
    again = net.walk("anna", udp(cast, "anna", "carl"))
    assert [t for _, t in again.wire] == ([] if asker == target else [D]) and again.delivered == "carl"
    back = net.walk("carl", udp(cast, "carl", "anna", 53, 4000))
    assert [t for _, t in back.wire] == ([] if asker == target else [D]) and back.delivered == "anna"


def test_xdp_answers_queries_when_it_is_there_and_tc_when_not(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    for xdp, number in ((True, 0), (False, 10)):
        net = roles(
            host, cast, {"anna": number + 1, "bert": number + 3}, [number + 2], {"10.10.1.0": [number + 2]}, xdp
        )
        net.walk("anna", udp(cast, "anna", "bert"))
        events = net.hosts[f"198.18.0.{number + 12}"].events()
        assert events == {"QUERIES_ANSWERED_XDP" if xdp else "QUERIES_ANSWERED_TC": 1}


def test_unknown_destination_is_refused_once_and_remembered(three_hosts: Net) -> None:
    nobody = IP(src="10.10.1.10", dst="10.10.1.77") / UDP(sport=1, dport=2)
    first = three_hosts.walk("anna", nobody)
    second = three_hosts.walk("anna", nobody)
    assert first.dropped == second.dropped == DropReason.UNKNOWN_DESTINATION
    assert second.wire == []


def test_destination_outside_every_subnet_is_unknown(three_hosts: Net) -> None:
    walk = three_hosts.walk("anna", IP(src="10.10.1.10", dst="8.8.8.8") / UDP(sport=1, dport=2))
    assert walk.dropped == DropReason.UNKNOWN_DESTINATION


def test_bouncer_that_is_not_serving_is_passed_over(host: Callable[..., Host], cast: dict[str, Endpoint]) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3, 4], {"10.10.1.0": [3, 4]})
    silent = net.hosts["198.18.0.13"]
    silent.serve(VNI, "10.10.1.0", on=False)
    for port in range(8):
        walk = net.walk("anna", udp(cast, "anna", "bert", sport=5000 + port))
        assert walk.delivered == "bert"
        assert ("host-4", V) in walk.wire


def test_nobody_serving_is_no_answer_and_the_next_packet_asks_again(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3, 4], {"10.10.1.0": [3, 4]})
    for number in (13, 14):
        net.hosts[f"198.18.0.{number}"].serve(VNI, "10.10.1.0", on=False)
    assert net.walk("anna", udp(cast, "anna", "bert")).dropped == DropReason.NO_ANSWER
    net.hosts["198.18.0.13"].serve(VNI, "10.10.1.0")
    assert net.walk("anna", udp(cast, "anna", "bert")).delivered == "bert"


def test_source_not_known_yet_is_asked_elsewhere_never_cached(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    net = roles(host, cast, {"bert": 2}, [3, 4], {"10.10.1.0": [3, 4]})
    newcomer = host(1)
    newcomer.vpc(VNI, ["198.18.0.13", "198.18.0.14"])
    newcomer.subnet(VNI, "10.10.1.0", 3)
    net.hosts[newcomer.address] = newcomer
    net.place(cast["anna"], newcomer)
    assert net.walk("anna", udp(cast, "anna", "bert")).dropped == DropReason.NO_ANSWER
    net.hosts["198.18.0.14"].knows(cast["anna"], newcomer.address)
    for port in range(4):
        assert net.walk("anna", udp(cast, "anna", "bert", sport=6000 + port)).delivered == "bert"


def test_moved_endpoint_is_found_anew_by_the_packet_that_missed_it(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})
    net.walk("anna", udp(cast, "anna", "bert"))
    old, new = net.hosts["198.18.0.12"], host(4)
    new.vpc(VNI, ["198.18.0.13"])
    net.hosts[new.address] = new
    net.place(cast["bert"], new)
    net.hosts["198.18.0.13"].knows(cast["bert"], new.address)
    old.loses(cast["bert"])
    walk = net.walk("anna", udp(cast, "anna", "bert"))
    assert [t for _, t in walk.wire] == [D, N, Q, V, D] and walk.delivered == "bert"
    assert net.walk("anna", udp(cast, "anna", "bert")).wire == [("host-1", D)]


def test_old_host_names_the_new_one(host: Callable[..., Host], cast: dict[str, Endpoint]) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})
    net.walk("anna", udp(cast, "anna", "bert"))
    new = host(4)
    new.vpc(VNI, ["198.18.0.13"])
    net.hosts[new.address] = new
    net.place(cast["bert"], new)
    net.hosts["198.18.0.12"].loses(cast["bert"], moved_to=new.address)
    walk = net.walk("anna", udp(cast, "anna", "bert"))
    assert [t for _, t in walk.wire] == [D, N, D] and walk.delivered == "bert"


def test_stale_bouncer_and_moved_endpoint_end_at_the_hop_limit(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})
    net.hosts["198.18.0.12"].loses(cast["bert"])
    walk = net.walk("anna", udp(cast, "anna", "bert"))
    assert walk.dropped == DropReason.HOP_LIMIT
    assert [t for _, t in walk.wire].count(N) == 9


def test_successor_of_an_address_never_gets_the_old_ones_packets(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})
    net.walk("anna", udp(cast, "anna", "bert"))
    two = net.hosts["198.18.0.12"]
    heir = Endpoint("heir", VNI, cast["bert"].address, "10.10.1.0", "10.10.1.1", 0x0CAA, cast["bert"].port)
    two.loses(cast["bert"])
    net.place(heir, two)
    walk = net.walk("anna", udp(cast, "anna", "bert"))  # the bouncer still answers with the old tag
    assert walk.delivered == "" and walk.dropped == DropReason.HOP_LIMIT
    net.hosts["198.18.0.13"].knows(heir, two.address)
    assert net.walk("anna", udp(cast, "anna", "bert")).delivered == "heir"


def test_endpoint_with_a_reused_address_inherits_no_permission(
    host: Callable[..., Host], cast: dict[str, Endpoint]
) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})
    net.walk("anna", udp(cast, "anna", "bert"))
    one = net.hosts["198.18.0.11"]
    heir = Endpoint("heir", VNI, cast["anna"].address, "10.10.1.0", "10.10.1.1", 0x0CBB, cast["anna"].port)
    one.loses(cast["anna"])
    net.place(heir, one)
    net.hosts["198.18.0.13"].knows(heir, one.address)
    walk = net.walk("heir", udp(cast, "anna", "bert"))
    assert ("host-1", Q) in walk.wire and walk.delivered == "bert"


def test_vpcs_with_equal_addresses_do_not_meet(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    eve = cast["eve"]
    three_hosts.place(eve, three_hosts.hosts["198.18.0.12"])
    walk = three_hosts.walk("anna", udp(cast, "anna", "bert"))
    assert walk.delivered == "bert"
    assert three_hosts.walk("eve", IP(src=eve.address, dst="10.10.1.10") / ICMP()).dropped == DropReason.NO_VPC


def test_pending_flow_is_bounded(host: Callable[..., Host], cast: dict[str, Endpoint]) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})
    one = net.hosts["198.18.0.11"]
    frame = net.frame("anna", udp(cast, "anna", "bert"))
    codes = [one.run("endpoint_tc", frame, cast["anna"].port).code for _ in range(70)]
    assert codes == [7] * 64 + [2] * 6
    assert one.maps.drops() == {(VNI, DropReason.PENDING_BUDGET): 6}


def test_tcp_end_shortens_the_entry_and_a_new_syn_restores_it(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    def tcp(flags: str) -> IP:
        return IP(src="10.10.1.10", dst="10.10.1.20") / TCP(sport=7, dport=80, flags=flags)

    one = three_hosts.hosts["198.18.0.11"]
    states = []
    for flags in ("S", "A", "FA", "S"):
        three_hosts.walk("anna", tcp(flags))
        states.append([bool(e.flags & FlowFlag.CLOSING) for e in one.flows(VNI).values()])
    assert states == [[False], [False], [True], [False]]


def test_second_fragment_follows_the_first_ones_ports(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    first = IP(src="10.10.1.10", dst="10.10.2.30", id=77, flags="MF", proto=17) / bytes(
        udp(cast, "anna", "carl", size=32)[UDP]
    )
    later = IP(src="10.10.1.10", dst="10.10.2.30", id=77, frag=5, proto=17) / b"rest of it"
    assert three_hosts.walk("anna", later).dropped == DropReason.FRAGMENT_UNKNOWN
    assert three_hosts.walk("anna", first).delivered == "carl"
    walk = three_hosts.walk("anna", later)
    assert walk.delivered == "carl" and [t for _, t in walk.wire] == [D]


def test_entry_stamped_after_this_packets_clock_was_read_lives_on(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    """Another CPU may touch an entry while this one is on its way to it."""
    three_hosts.walk("anna", udp(cast, "anna", "bert"))
    one = three_hosts.hosts["198.18.0.11"]
    ahead = {k: replace(e, seen=(e.seen + 500) & 0xFFFFFFFF) for k, e in one.flows(VNI).items()}
    one.put_flows(VNI, ahead)
    assert three_hosts.walk("anna", udp(cast, "anna", "bert")).wire == [("host-1", D)]
    assert one.flows(VNI)
