"""Whose word counts: forged queries, verdicts and data, and frames that no host of ours writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from node_agent.datapath.layout import Action, DropReason, WireBit, WireFlag, WireType
from tests.datapath.conftest import VNI, roles
from tests.datapath.host import Endpoint, Host, ip_int
from tests.datapath.walk import TC_SHOT, XDP_DROP, Net, Walk

pytestmark = pytest.mark.root
ANNA, BERT, BOUNCER, STRANGER, OUTSIDE = ("198.18.0.11", "198.18.0.12", "198.18.0.13", "198.18.0.66", "203.0.113.9")


def message(
    kind: WireType,
    src: str,
    dst: str,
    inner: IP,
    *,
    tag: int = 0,
    host: str = "0.0.0.0",
    action: int = 0,
    bits: int = 0,
    version: int = 0,
    vni: int = VNI,
    flags: int = 8,
    backend: tuple[str, int] = ("0.0.0.0", 0),
) -> bytes:
    """A frame of the tunnel, byte by byte as docs/datapath.md has it. `backend`: NATed is set when there is one."""
    nated = WireFlag.NATED if backend[1] else 0
    vxlan = bytes([flags, version << 6 | kind << 3 | nated, bits | action, 0]) + (vni << 8).to_bytes(4, "big")
    macs = tag.to_bytes(2, "big") + ip_int(host).to_bytes(4, "big")
    macs += ip_int(backend[0]).to_bytes(4, "big") + backend[1].to_bytes(2, "big")
    return bytes(
        Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:01")
        / IP(src=src, dst=dst, flags="DF", id=0)
        / UDP(sport=50000, dport=4789, chksum=0)
        / (vxlan + macs + b"\x08\x00" + bytes(inner))
    )


@pytest.fixture
def net(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    """anna on host 1, bert on host 2, host 3 bounces for both."""
    return roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})


def inner(a: str = "10.10.1.10", b: str = "10.10.1.20") -> IP:
    return IP(src=a, dst=b) / UDP(sport=4000, dport=53) / b"hello"


def verdict(src: str, cast: dict[str, Endpoint], **more: int) -> bytes:
    return message(WireType.VERDICT, src, ANNA, inner(), tag=cast["bert"].tag, host=BERT, action=Action.ALLOW, **more)


def test_verdict_of_the_vpc_set_installs(net: Net, cast: dict[str, Endpoint]) -> None:
    assert net.arrive(net.hosts[ANNA], verdict(BOUNCER, cast)).delivered == "bert"


@pytest.mark.parametrize("liar", [STRANGER, OUTSIDE, BERT])
def test_verdict_of_anyone_else_installs_nothing(net: Net, cast: dict[str, Endpoint], liar: str) -> None:
    walk = net.arrive(net.hosts[ANNA], verdict(liar, cast))
    assert walk.dropped == DropReason.UNTRUSTED and net.hosts[ANNA].flows(VNI) == {}


def test_verdict_for_a_source_that_is_not_here_is_dropped(net: Net, cast: dict[str, Endpoint]) -> None:
    frame = message(WireType.VERDICT, BOUNCER, BERT, inner(), tag=cast["bert"].tag, host=BERT, action=Action.ALLOW)
    assert net.arrive(net.hosts[BERT], frame).dropped == DropReason.STRAY_VERDICT


def test_ask_only_verdict_is_applied_and_goes_nowhere(net: Net, cast: dict[str, Endpoint]) -> None:
    walk = net.arrive(net.hosts[ANNA], verdict(BOUNCER, cast, bits=WireBit.ASK_ONLY))
    assert (walk.delivered, walk.wire, walk.dropped) == ("", [], None)
    assert len(net.hosts[ANNA].flows(VNI)) == 1


def test_first_verdict_wins(net: Net, cast: dict[str, Endpoint]) -> None:
    net.walk("anna", inner())
    other = message(WireType.VERDICT, BOUNCER, ANNA, inner(), tag=0x0EEE, host=STRANGER, action=Action.ALLOW)
    assert net.arrive(net.hosts[ANNA], other).delivered == "bert"


def test_query_must_come_from_the_host_it_names(net: Net) -> None:
    frame = message(WireType.QUERY, STRANGER, BOUNCER, inner(), host=ANNA)
    assert net.arrive(net.hosts[BOUNCER], frame).dropped == DropReason.ASKER_MISMATCH


def test_query_about_anothers_endpoint_is_not_answered_with_a_place(net: Net) -> None:
    result = net.hosts[BOUNCER].run("transit_xdp", message(WireType.QUERY, BERT, BOUNCER, inner(), host=BERT))
    assert result.data[14 + 28 + 2] & 0x0F == Action.RETRY


def test_passed_query_counts_only_from_the_vpc_set(net: Net) -> None:
    frame = message(WireType.QUERY, STRANGER, BOUNCER, inner(), host=ANNA, bits=WireBit.PASSED)
    assert net.arrive(net.hosts[BOUNCER], frame).dropped == DropReason.UNTRUSTED


def test_data_from_outside_the_underlay_is_dropped(net: Net, cast: dict[str, Endpoint]) -> None:
    frame = message(WireType.DATA, OUTSIDE, BERT, inner(), tag=cast["bert"].tag)
    assert net.arrive(net.hosts[BERT], frame).dropped == DropReason.UNTRUSTED


def test_arriving_data_never_changes_a_live_entrys_host(net: Net, cast: dict[str, Endpoint]) -> None:
    net.walk("anna", inner())
    before = net.hosts[ANNA].flows(VNI)
    reply = message(
        WireType.DATA,
        STRANGER,
        ANNA,
        IP(src="10.10.1.20", dst="10.10.1.10") / UDP(sport=53, dport=4000),
        tag=cast["anna"].tag,
    )
    net.arrive(net.hosts[ANNA], reply)
    assert {k: v.host for k, v in net.hosts[ANNA].flows(VNI).items()} == {k: v.host for k, v in before.items()}


def test_not_here_counts_only_from_the_host_that_the_entry_names(net: Net, cast: dict[str, Endpoint]) -> None:
    net.walk("anna", inner())
    frame = message(WireType.NOT_HERE, STRANGER, ANNA, inner(), tag=cast["bert"].tag, host=STRANGER)
    walk = net.arrive(net.hosts[ANNA], frame)
    assert walk.wire == [("host-1", WireType.DATA)] and walk.delivered == "bert"
    assert {ip_int(BERT)} == {e.host for e in net.hosts[ANNA].flows(VNI).values()}


def dropped(walk: Walk) -> DropReason | None:
    assert not walk.delivered and not walk.wire
    return walk.dropped


@pytest.mark.parametrize(
    "change,reason",
    [
        ({"version": 1}, DropReason.UNKNOWN_VERSION),
        ({"flags": 0}, DropReason.OUTER_HEADER),
        ({"vni": 77}, None),
        ({"action": 15}, DropReason.UNKNOWN_ACTION),
    ],
)
def test_message_of_no_known_form_is_a_named_drop(net: Net, change: dict[str, int], reason: DropReason | None) -> None:
    frame = message(WireType.VERDICT, BOUNCER, ANNA, inner(), **change)
    assert dropped(net.arrive(net.hosts[ANNA], frame)) == (reason or DropReason.NO_VPC)


@pytest.mark.parametrize("kind", [4, 5, 6, 7])
def test_unknown_type_is_a_named_drop(net: Net, kind: int) -> None:
    frame = bytearray(message(WireType.DATA, BOUNCER, ANNA, inner()))
    frame[14 + 28 + 1] = kind << 3
    assert dropped(net.arrive(net.hosts[ANNA], bytes(frame))) == DropReason.UNKNOWN_TYPE


@pytest.mark.parametrize("outer", [{"options": b"\x07\x04\x00\x00"}, {"flags": "MF"}])
def test_outer_headers_that_no_host_writes_never_reach_the_stack(net: Net, outer: dict[str, object]) -> None:
    inside = message(WireType.DATA, BERT, ANNA, inner())[14 + 20 :]
    fields = {k: v for k, v in outer.items() if k != "options"}
    header = IP(src=BERT, dst=ANNA, proto=17, **fields)
    if "options" in outer:
        header.options = [b"\x07\x04\x04\x00"]
    frame = bytes(Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:01") / header / inside)
    assert dropped(net.arrive(net.hosts[ANNA], frame)) == DropReason.OUTER_HEADER


def test_traffic_of_the_host_itself_is_left_alone(net: Net) -> None:
    for other in (IP(src=BERT, dst=ANNA) / UDP(dport=53), IP(src=BERT, dst="198.18.0.77") / UDP(dport=4789)):
        frame = bytes(Ether() / other)
        assert net.hosts[ANNA].run("transit_tc", frame).code == 0xFFFFFFFF
        assert net.hosts[ANNA].run("transit_xdp", frame).code == 2


def test_cut_short_frames_are_never_read_past_their_end(net: Net, cast: dict[str, Endpoint]) -> None:
    whole = verdict(BOUNCER, cast)
    for length in range(34, len(whole)):
        walk = net.arrive(net.hosts[ANNA], whole[:length])
        assert not walk.delivered, length
    assert net.hosts[ANNA].flows(VNI) == {}


def test_congestion_met_on_the_way_shows_inside(net: Net, cast: dict[str, Endpoint]) -> None:
    marked = inner()
    marked.tos = 0x02
    for tos, inside, want in ((0x03, marked, 0x03), (0x02, marked, 0x02)):
        frame = Ether(message(WireType.DATA, ANNA, BERT, inside, tag=cast["bert"].tag))
        frame[IP].tos = tos
        got = net.arrive(net.hosts[BERT], bytes(frame))
        ip = IP(got.frame[14:])
        assert ip.tos == want
        fixed = IP(bytes(ip))
        del fixed.chksum
        assert IP(bytes(fixed)).chksum == ip.chksum
    unmarked = Ether(message(WireType.DATA, ANNA, BERT, inner(), tag=cast["bert"].tag))
    unmarked[IP].tos = 0x03
    assert net.arrive(net.hosts[BERT], bytes(unmarked)).dropped == DropReason.CONGESTION_MARK


def test_verdict_may_name_hosts_only(net: Net, cast: dict[str, Endpoint]) -> None:
    frame = message(WireType.VERDICT, BOUNCER, ANNA, inner(), tag=cast["bert"].tag, host=OUTSIDE, action=Action.ALLOW)
    assert net.arrive(net.hosts[ANNA], frame).dropped == DropReason.UNTRUSTED


def test_congestion_met_by_a_query_is_met_by_its_verdict(net: Net) -> None:
    marked = inner()
    marked.tos = 0x02
    frame = Ether(message(WireType.QUERY, ANNA, BOUNCER, marked, host=ANNA))
    frame[IP].tos = 0x03
    for program in ("transit_xdp", "transit_tc"):
        assert IP(net.hosts[BOUNCER].run(program, bytes(frame)).data[14:]).tos & 3 == 3


def test_answer_from_an_old_list_is_asked_about_once_more(host: Callable[..., Host], cast: dict[str, Endpoint]) -> None:
    pair = roles(host, cast, {"anna": 1, "bert": 2}, [3, 4], {"10.10.1.0": [3, 4]})
    for address in (BOUNCER, "198.18.0.14"):
        pair.hosts[address].serve(VNI, "10.10.1.0", stale=True)
    walk = pair.walk("anna", inner())
    assert [kind for _, kind in walk.wire].count(WireType.QUERY) == 2
    assert {sender for sender, kind in walk.wire if kind == WireType.VERDICT} == {"host-3", "host-4"}
    assert walk.delivered == "bert"


def spend(at: Host, frame: bytes) -> None:
    """More than the bouncer takes of one host."""
    for _ in range(12):
        at.run("transit_xdp", frame)


@pytest.mark.parametrize(
    "src,bits", [(STRANGER, 0), (OUTSIDE, 0), (STRANGER, WireBit.PASSED), (OUTSIDE, WireBit.PASSED)]
)
def test_nobody_spends_anothers_budget(net: Net, src: str, bits: int) -> None:
    bouncer = net.hosts[BOUNCER]
    bouncer.configure(busy_rate=1, busy_burst=4)
    big = inner() / (b"x" * 1200)
    spend(bouncer, message(WireType.QUERY, src, BOUNCER, big, host=ANNA, bits=bits))
    assert bouncer.maps.read("budgets") == {} and "QUERIES_REFUSED_BUSY" not in bouncer.events()
    assert net.walk("anna", inner()).delivered == "bert"


@pytest.mark.parametrize("program", ["transit_xdp", "transit_tc"])
@pytest.mark.parametrize("busy", [False, True], ids=["", "busy"])
def test_query_from_outside_the_underlay_is_not_answered(net: Net, program: str, busy: bool) -> None:
    bouncer = net.hosts[BOUNCER]
    if busy:
        bouncer.configure(busy_rate=1, busy_burst=1)
    frame = message(WireType.QUERY, OUTSIDE, BOUNCER, inner() / (b"x" * 1200), host=OUTSIDE)
    codes = {bouncer.run(program, frame).code for _ in range(3)}
    assert codes == {TC_SHOT if program == "transit_tc" else XDP_DROP}
    assert bouncer.maps.drops() == {(VNI, DropReason.UNTRUSTED): 3}


def test_passed_query_is_not_answered_to_outside_the_underlay(net: Net) -> None:
    frame = message(WireType.QUERY, BOUNCER, BOUNCER, inner(), host=OUTSIDE, bits=WireBit.PASSED)
    frame = frame.replace(bytes([198, 18, 0, 13, 198, 18, 0, 13]), bytes([198, 18, 0, 14, 198, 18, 0, 13]))
    net.hosts[BOUNCER].vpc(VNI, [BOUNCER, "198.18.0.14"])
    assert net.arrive(net.hosts[BOUNCER], frame).dropped == DropReason.UNTRUSTED


def test_host_is_not_believed_to_send_to_itself(net: Net, cast: dict[str, Endpoint]) -> None:
    """What the programs do in one run they take for their own: no frame of the wire may look like it."""
    frame = verdict(ANNA, cast)
    assert net.arrive(net.hosts[ANNA], frame).dropped == DropReason.UNTRUSTED and net.hosts[ANNA].flows(VNI) == {}


def test_drops_of_unknown_vpcs_are_counted_together(net: Net) -> None:
    one = net.hosts[ANNA]
    for vni in range(5000, 5020):
        one.run("transit_tc", message(WireType.VERDICT, OUTSIDE, ANNA, inner(), vni=vni))
    assert one.maps.drops() == {(0, DropReason.NO_VPC): 20}


def test_no_drop_goes_uncounted_when_the_table_is_full(net: Net, cast: dict[str, Endpoint]) -> None:
    one = net.hosts[ANNA]
    one.run("transit_tc", message(WireType.VERDICT, OUTSIDE, ANNA, inner()))
    one.fill_drops()
    assert net.walk("anna", IP(src=BERT, dst="10.10.1.20") / UDP()).dropped == DropReason.SOURCE_ADDRESS
    assert one.maps.drops()[0, DropReason.SOURCE_ADDRESS] == 1
