"""Endpoints come and go: what each of several hosts holds before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node_agent.agent import claims
from node_agent.agent.endpoints import ABANDONED, AGAIN, LATE
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.datapath.layout import EndpointKey, FlowEntry, FlowKey, LocalRow, PortKey
from node_agent.model.addresses import Usable
from node_agent.model.bandwidth import Bandwidth, Rate
from node_agent.model.errors import Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec, NetworkHost, NetworkHostSpec, Subnet, Vpc
from node_agent.model.places import veth_name
from node_agent.rows.endpoints import Port
from node_agent.rows.image import mapped
from node_agent.testing.store import FakeStore
from tests.transition.agents import VNI, Agents, Fuse, Killed, KillingStore


@pytest.fixture
def agents() -> Agents:
    """Five hosts; h0, h1, h2 are the set, h0 and h1 bounce s1."""
    made = Agents(5)
    made.vpc({"h0": "active", "h1": "active", "h2": "active"})
    made.subnet((0, 1))
    made.settle()
    return made


def changed(before: dict[str, object], after: dict[str, object]) -> set[str]:
    return {name for name in after if before[name] != after[name]}


def test_an_endpoint_changes_maps_on_its_host_and_its_bouncers_only(agents: Agents) -> None:
    agents.add("h4", "first")
    agents.settle()
    before = agents.images()
    reply = agents.add("h4", "second")
    agents.settle()
    assert (reply.code, reply.mtu, reply.gateway) == (0, 1450, "10.0.1.1")
    after = agents.images()
    assert changed(dict(before), dict(after)) == {"h0", "h1", "h4"}
    key = EndpointKey(vni=VNI, addr=mapped(reply.address)).pack()
    for bouncer in ("h0", "h1"):
        assert set(after[bouncer]["endpoints"]) - set(before[bouncer]["endpoints"]) == {key}
        assert {k: v for k, v in after[bouncer].items() if k != "endpoints"} == {
            k: v for k, v in before[bouncer].items() if k != "endpoints"
        }
    assert set(after["h4"]["locals"]) - set(before["h4"]["locals"]) == {key}
    assert {k: v for k, v in after["h4"].items() if k not in ("locals", "ports")} == {
        k: v for k, v in before["h4"].items() if k not in ("locals", "ports")
    }


def test_more_hosts_change_nothing_on_those_that_stay() -> None:
    agents = Agents(7)
    agents.vpc({f"h{i}": "active" for i in range(5)})
    agents.subnet((1, 3))
    for i in range(7):
        assert agents.add(f"h{i}", f"c{i}").code == 0
    agents.settle()
    before = agents.images()
    agents.join()
    agents.join()
    agents.settle()
    after = agents.images()
    assert {name: after[name] for name in before} == before
    assert [set(after[name]) for name in ("h7", "h8")] == [{"config"}, {"config"}]
    assert {name for name in after if "endpoints" in after[name]} == {"h1", "h3"}


def test_adding_twice_finds_the_first_claim(agents: Agents) -> None:
    first = agents.add("h3", "c")
    before, kernel = agents.images()["h3"], str(agents.hosts["h3"].kernel)
    assert agents.add("h3", "c") == first
    assert (agents.images()["h3"], str(agents.hosts["h3"].kernel)) == (before, kernel)
    assert len(agents.store.list(NetworkEndpoint)) == 1
    other = agents.add("h3", "c", address="10.0.1.9" if first.address != "10.0.1.9" else "10.0.1.8")
    assert other.code == protocol.INVALID_CONFIG
    assert first.address in other.message


def test_the_reply_comes_when_the_bouncers_know(agents: Agents) -> None:
    reply = agents.add("h3", "c")
    for bouncer in ("h0", "h1"):
        assert EndpointKey(vni=VNI, addr=mapped(reply.address)).pack() in agents.hosts[bouncer].maps.rows["endpoints"]
    assert all(not flows for flows in agents.hosts["h3"].maps.flows.values())  # the questions left nothing behind


def test_one_dead_bouncer_costs_a_second_and_two_are_worth_a_retry(agents: Agents) -> None:
    agents.hosts["h0"].alive = False
    begun = agents.clock()
    assert agents.add("h3", "c").code == 0
    assert 1.0 <= agents.clock() - begun < 2.0
    assert "not known to every bouncer" in agents.hosts["h3"].log.getvalue()
    agents.hosts["h1"].alive = False
    refused = agents.add("h3", "d")
    assert refused.code == protocol.TRY_AGAIN
    assert "no bouncer of s1 knows it yet (h0, h1)" in refused.message
    agents.hosts["h1"].alive = True
    assert agents.add("h3", "d").code == 0


def test_a_bouncer_adds_endpoints_of_its_own(agents: Agents) -> None:
    assert agents.add("h0", "c").code == 0
    assert [step for step in agents.hosts["h0"].maps.steps if "locals" in step or "of endpoints" in step][-2:] == [
        "put 1 of locals",
        "put 1 of endpoints",
    ]


def test_removing_leaves_nothing_anywhere(agents: Agents) -> None:
    before = agents.images()
    reply = agents.add("h3", "c")
    host = agents.hosts["h3"]
    flow = FlowKey(vni=VNI, src=mapped(reply.address), dst=mapped("10.0.1.14"), proto=6)
    host.maps.learn(1, flow, FlowEntry())
    host.maps.rows["asked"][flow.pack()] = bytes(16)
    for _ in range(2):
        assert agents.delete("h3", "c") == Reply()
        agents.settle()
        assert agents.images() == before
        assert agents.store.list(NetworkEndpoint) == []
        assert (host.kernel.devices, host.maps.flows, host.maps.rows["asked"]) == ({}, {}, {})


def test_removing_one_of_two_keeps_the_others_flows(agents: Agents) -> None:
    gone, kept = agents.add("h3", "c"), agents.add("h3", "d")
    flows = [FlowKey(vni=VNI, src=mapped(a), dst=mapped("10.0.1.14"), proto=6) for a in (gone.address, kept.address)]
    for flow in flows:
        agents.hosts["h3"].maps.learn(1, flow, FlowEntry())
    agents.delete("h3", "c")
    assert list(agents.hosts["h3"].maps.flows[1]) == [flows[1].pack()]


def test_a_subnet_is_filled_to_its_last_address_emptied_and_filled_again(agents: Agents) -> None:
    for _ in range(2):
        found = {agents.add(f"h{i % 5}", f"c{i}").address for i in range(13)}
        assert found == set(Usable("10.0.1.0/28"))
        full = agents.add("h0", "one too many")
        assert full.code == protocol.EXHAUSTED
        assert "all 13 of 10.0.1.0/28 are taken" in full.message
        for i in range(13):
            assert agents.delete(f"h{i % 5}", f"c{i}").code == 0


def test_the_first_of_a_vpc_that_gets_no_address_leaves_no_flow_table(agents: Agents) -> None:
    for i in range(13):
        assert agents.add(f"h{i % 3}", f"c{i}").code == 0
    agents.settle()
    before, host = agents.images()["h4"], agents.hosts["h4"]
    assert agents.add("h4", "one too many").code == protocol.EXHAUSTED
    assert (agents.images()["h4"], host.maps.sizes) == (before, {})
    assert agents.hosts["h0"].maps.sizes


def test_a_device_that_cannot_be_made_is_an_error_and_the_next_add_mends_it(agents: Agents) -> None:
    host = agents.hosts["h4"]
    host.kernel.fail = [Temporary("add veth: busy")]
    assert agents.add("h4", "c").code == protocol.TRY_AGAIN
    assert not host.kernel.devices and not agents.images()["h4"].get("locals")
    assert agents.add("h4", "c").code == 0
    assert len(agents.store.list(NetworkEndpoint)) == 1
    assert agents.delete("h4", "c").code == 0 and not agents.store.list(NetworkEndpoint)


@pytest.mark.parametrize("late", [False, True])
def test_what_others_claimed_for_the_container_is_found(agents: Agents, late: bool) -> None:
    """By whoever moves it here, at any time; by an agent that died, in the time in which that can take effect."""
    agents.hosts["h3"].alive = False  # it does not look at the store
    agents.clock.advance(LATE + 1 if late else 0)
    spec = NetworkEndpointSpec(vpc="blue", subnet="s1", address="10.0.1.9", host="h3", container_id="c")
    agents.store.create(NetworkEndpoint(name=f"{VNI}-10.0.1.9", spec=spec))
    asked = Request(verb="ADD", container_id="c", netns=agents.netns("h3", "c"), vpc="blue", subnet="s1")
    if not late:
        asked = replace(asked, network="net")
    assert agents.ask("h3", asked).address == "10.0.1.9"


def test_of_a_runtimes_container_the_store_is_not_asked_what_this_agent_knows(agents: Agents) -> None:
    agents.clock.advance(LATE + 1)
    host = agents.hosts["h3"]
    where = {"netns": agents.netns("h3", "c"), "vpc": "blue", "subnet": "s1", "network": "net"}
    assert agents.ask("h3", Request(verb="ADD", container_id="first", **where)).code == 0
    agents.settle()
    asked = []

    class Counting:
        def __getattr__(self, verb: str) -> Any:
            asked.append(verb)
            return getattr(agents.store, verb)

    host.agent._endpoints._store = Counting()  # type: ignore[union-attr, assignment]
    assert agents.ask("h3", Request(verb="ADD", container_id="c", **where)).code == 0
    assert asked == ["create", "put_status"]


def test_late_news_of_what_was_removed_here_removes_nothing_again(agents: Agents) -> None:
    reply = agents.add("h3", "c")
    agents.settle()
    seen = agents.store.get(NetworkEndpoint, reply.endpoint)
    assert agents.delete("h3", "c").code == 0
    late = replace(seen, meta=replace(seen.meta, deleting=True))
    agents.hosts["h3"].agent._tables.put(late)
    assert agents.add("h3", "c").code == 0
    agents.settle()
    assert agents.hosts["h3"].log.getvalue().count("endpoint removed") == 1
    assert agents.delete("h3", "c").code == 0
    assert agents.hosts["h3"].agent._tables.own() == ()


def test_a_taken_address_names_its_owner(agents: Agents) -> None:
    assert agents.add("h3", "c", address="10.0.1.5").address == "10.0.1.5"
    taken = agents.add("h4", "d", address="10.0.1.5")
    assert (taken.code, taken.message) == (protocol.FAILED, "claim address 10.0.1.5 in s1: c on h3 has it")
    agents.delete("h3", "c")
    assert agents.add("h4", "d", address="10.0.1.5").code == 0


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request(verb="ADD", container_id="c", netns="/nowhere", vpc="blue", subnet="s1"), "no network namespace"),
        (
            Request(verb="ADD", container_id="c", netns="/n", vpc="red", subnet="s9"),
            "no VPC 'red'\nsubnet: there is no",
        ),
        (Request(verb="ADD", container_id="c", netns="/n", vpc="red", subnet="s1"), "belongs to VPC blue"),
    ],
)
def test_wrong_requests_claim_nothing(agents: Agents, request_: Request, says: str) -> None:
    agents.hosts["h3"].kernel.namespaces.add(Path("/n"))
    reply = agents.ask("h3", request_)
    assert reply.code == protocol.INVALID_CONFIG
    assert says in reply.message
    assert agents.store.list(NetworkEndpoint) == []


@pytest.mark.parametrize("address", ["10.0.1.0", "10.0.1.1", "10.0.1.15", "10.0.2.7", "10.0.1"])
def test_addresses_that_are_not_to_be_had(agents: Agents, address: str) -> None:
    assert agents.add("h3", "c", address=address).code == protocol.INVALID_CONFIG
    assert agents.store.list(NetworkEndpoint) == []


def test_without_vni_or_bouncers_the_caller_is_to_try_again() -> None:
    agents = Agents(1)
    agents.vpc({}, vni=0)
    agents.subnet(())
    assert agents.add("h0", "c").code == protocol.TRY_AGAIN
    agents.vpc({"h0": "joining"})
    agents.subnet((0,))
    assert "may be asked yet" in agents.add("h0", "c").message
    agents.vpc({"h0": "active"})
    assert agents.add("h0", "c").code == 0


def test_check_finds_what_is_wrong(agents: Agents) -> None:
    added = agents.add("h3", "c")
    asked = Request(verb="CHECK", container_id="c", netns="/run/netns/c")
    assert agents.ask("h3", asked) == added
    agents.hosts["h3"].kernel.remove_endpoint(next(iter(agents.hosts["h3"].kernel.devices)))
    assert agents.ask("h3", asked).code == protocol.FAILED
    assert agents.ask("h3", replace(asked, container_id="x")).code == protocol.FAILED


def test_an_endpoint_deleted_in_the_store_is_removed_here(agents: Agents) -> None:
    reply = agents.add("h3", "c")
    before = agents.images()["h4"]
    agents.store.delete(NetworkEndpoint, reply.endpoint)
    agents.settle()
    assert agents.store.list(NetworkEndpoint) == []
    assert agents.hosts["h3"].kernel.devices == {}
    assert agents.images()["h3"] == {**before, "config": agents.images()["h3"]["config"]}


@pytest.mark.parametrize("step", ["kernel", "store"])
def test_a_removal_of_which_a_step_failed_is_finished_and_keeps_no_other_waiting(agents: Agents, step: str) -> None:
    first, second = sorted((agents.add("h3", "one").endpoint, agents.add("h3", "two").endpoint))
    for name in (first, second):
        agents.store.delete(NetworkEndpoint, name)
    host = agents.hosts["h3"]
    if step == "kernel":
        host.kernel.fail = [Temporary("remove link: busy")]
    else:
        agents.start("h3", Refusing(agents.store, "drop_finalizer"))
    agents.settle()
    assert second not in [endpoint.name for endpoint in agents.store.list(NetworkEndpoint)]
    agents.clock.advance(AGAIN)
    agents.settle()
    assert agents.store.list(NetworkEndpoint) == []
    assert host.kernel.devices == {} and host.maps.rows["locals"] == {} and not host.agent.problems()


def test_what_is_left_of_a_failed_removal_is_done_by_the_next_request(agents: Agents) -> None:
    old = agents.add("h3", "one")
    host = agents.hosts["h3"]
    host.kernel.fail = [Temporary("remove link: busy")]
    assert agents.delete("h3", "one").code == protocol.TRY_AGAIN
    assert agents.add("h3", "one").code == 0
    agents.settle()
    (left,) = agents.store.list(NetworkEndpoint)
    assert left.meta.uid and not left.meta.deleting and (left.name != old.endpoint or left.tag != 0)
    agents.clock.advance(AGAIN)
    agents.settle()
    assert len(host.kernel.devices) == 1 and agents.store.list(NetworkEndpoint) == [left]


def test_an_endpoint_whose_container_went_without_a_word_is_collected(agents: Agents) -> None:
    """Its runtime was killed during ADD, and removed the namespace, and the device with it, later."""
    host = agents.hosts["h3"]
    asked = Request(verb="ADD", netns=agents.netns("h3", "c"), vpc="blue", subnet="s1")
    for container, network in (("gone", "mizar"), ("lives", "mizar"), ("nobodys", "")):
        assert agents.ask("h3", replace(asked, container_id=container, network=network)).code == 0
    for container in ("gone", "nobodys"):
        host.kernel.remove_endpoint(veth_name(container, asked.interface))

    def there() -> set[str]:
        return {endpoint.spec.container_id for endpoint in agents.store.list(NetworkEndpoint)}

    for passed in (0.0, ABANDONED - 1):
        agents.clock.advance(passed)
        host.agent.check()
        assert there() == {"gone", "lives", "nobodys"}
    agents.clock.advance(1.01)
    host.agent.check()
    agents.settle()
    assert there() == {"lives", "nobodys"}
    assert len(host.kernel.devices) == 1 and not host.agent.problems()


class Refusing:
    """The store, which refuses the verb the first time."""

    def __init__(self, store: FakeStore, verb: str) -> None:
        self._store, self._verb = store, verb

    def __getattr__(self, name: str) -> Any:
        if name == self._verb:
            self._verb = ""
            raise Temporary(f"{name}: no answer")
        return getattr(self._store, name)


def prepared(steps: int, *, added: bool = False) -> tuple[Agents, Fuse]:
    agents = Agents(3)
    agents.vpc({"h0": "active", "h1": "active"})
    agents.subnet((0, 1))
    if added:
        agents.add("h2", "c")
    agents.settle()
    fuse = Fuse(-1)
    agents.start("h2", KillingStore(agents.store, fuse))
    agents.settle()
    fuse.left = steps
    host = agents.hosts["h2"]
    host.maps.before = host.kernel.before = fuse.step
    return agents, fuse


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_killed_at_any_step_a_repetition_repairs_it(verb: str) -> None:
    def act(agents: Agents) -> Reply:
        return agents.add("h2", "c") if verb == "ADD" else agents.delete("h2", "c")

    undisturbed, fuse = prepared(10_000, added=verb == "DEL")
    wanted_reply = act(undisturbed)
    count = 10_000 - fuse.left
    undisturbed.settle()
    wanted = undisturbed.images()
    assert count > 8
    for steps in range(count):
        agents, fuse = prepared(steps, added=verb == "DEL")
        with pytest.raises(Killed):
            act(agents)
        agents.start("h2")
        reply = act(agents)
        agents.settle()
        assert reply == wanted_reply
        assert without_tags(agents.images()) == without_tags(wanted), steps
        assert [e.name for e in agents.store.list(NetworkEndpoint)] == [
            e.name for e in undisturbed.store.list(NetworkEndpoint)
        ]


def without_tags(images: dict[str, dict[str, dict[bytes, bytes]]]) -> dict[str, dict[str, list[bytes]]]:
    """Tags follow from uids and devices' numbers from history; both may differ between two runs."""
    return {
        host: {name: sorted(rows) if name != "ports" else [b""] * len(rows) for name, rows in image.items()}
        for host, image in images.items()
    }


def test_an_agent_that_starts_refuses_until_it_has_read_the_store(agents: Agents) -> None:
    agents.store.fail = [Temporary("read store: locked")] * 2
    agents.start("h3")
    reply = agents.add("h3", "c")
    assert (reply.code, "locked" in reply.message) == (protocol.TRY_AGAIN, True)
    agents.settle()
    assert agents.add("h3", "c").code == 0


def test_hosts_begin_in_different_places_and_skip_what_they_know() -> None:
    first = {host: next(claims.order("10.0.0.0/20", host)) for host in ("a", "b", "c", "d")}
    assert len(set(first.values())) == 4
    assert sorted(claims.order("10.0.1.0/28", "a")) == sorted(Usable("10.0.1.0/28"))
    assert list(claims.order("10.0.1.0/28", "a", set(Usable("10.0.1.0/28")[1:]))) == [Usable("10.0.1.0/28")[0]]


def test_a_device_that_was_made_anew_gets_new_rows(agents: Agents) -> None:
    agents.add("h3", "c")
    host = agents.hosts["h3"]
    veth = next(iter(host.kernel.ports))
    host.kernel.ports[veth] = Port(99)
    host.agent.check()
    assert list(host.maps.rows["ports"]) == [PortKey(ifindex=99).pack()]


def test_a_queue_that_somebody_gave_a_device_is_used_and_check_has_no_objection(agents: Agents) -> None:
    reply = agents.add("h3", "c")
    host = agents.hosts["h3"]
    veth, port = next(iter(host.kernel.ports.items()))
    host.kernel.ports[veth] = replace(port, queued=True)
    assert agents.ask("h3", Request(verb="CHECK", container_id="c")) == reply
    host.agent.check()
    assert [LocalRow.unpack(row).queued for row in host.maps.rows["locals"].values()] == [1]


def test_a_bounded_endpoint_gets_a_bounded_device(agents: Agents) -> None:
    bandwidth = Bandwidth(ingress=Rate(8_000_000, 80_000), egress=Rate(4_000_000))
    agents.add("h3", "c", bandwidth=bandwidth)
    host = agents.hosts["h3"]
    assert [device.bandwidth for device in host.kernel.devices.values()] == [bandwidth]
    assert [LocalRow.unpack(row).queued for row in host.maps.rows["locals"].values()] == [1]


def test_names_in_tests_are_those_of_the_store(agents: Agents) -> None:
    assert agents.store.get(NetworkHost, "h0").spec == NetworkHostSpec(address="198.18.0.10")
    assert agents.store.get(Vpc, "blue").status.vni == VNI
    assert agents.store.get(Subnet, "s1").status.bouncers == (0, 1)


class Between:
    """A store that does `then` after so many watches have read, and have yet to say, that something is gone."""

    def __init__(self, under: FakeStore, watches: int, then: Callable[[], object]) -> None:
        self._under, self._left, self._then = under, watches, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._under, name)

    def watch(self, *args: Any) -> Any:
        opened, between = self._under.watch(*args), self

        class Watch:
            fresh_at = property(lambda self: opened.fresh_at)
            close = opened.close

            def poll(self, timeout: float = 0.0) -> Any:
                events = opened.poll(timeout)
                if any(event.type == "gone" for event in events):
                    between._left -= 1
                    if not between._left:
                        between._then()
                return events

        return Watch()


@pytest.mark.parametrize("watches", [1, 2])
def test_a_new_owner_of_the_address_outlives_the_late_word_that_the_old_one_is_gone(
    agents: Agents, watches: int
) -> None:
    """The loop read of the removal, and a request made the new endpoint before the loop went on."""
    replies = list[Reply]()

    def add() -> None:
        replies.append(agents.add("h3", "new", address="10.0.1.5"))

    agents.start("h3", Between(agents.store, watches, add))
    agents.settle()
    assert agents.add("h3", "beside").code == 0  # so that the host needs the same of the store all the time
    assert agents.add("h3", "old", address="10.0.1.5").code == 0
    agents.settle()
    assert agents.delete("h3", "old").code == 0
    agents.hosts["h3"].agent.turn()
    assert [reply.code for reply in replies] == [0]
    host = agents.hosts["h3"]
    assert host.kernel.devices.keys() == {veth_name("beside", "eth0"), veth_name("new", "eth0")}
    assert len(host.maps.rows["ports"]) == len(host.maps.rows["locals"]) == 2
