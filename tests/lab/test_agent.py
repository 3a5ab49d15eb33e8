"""Real agents on emulated hosts: packets pass, kill -9 changes none, and what is broken is put back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from node_agent.cni import client
from node_agent.cni.protocol import Reply, Request
from node_agent.datapath.direct import ICMP, Flow, Question, StackFlows
from node_agent.datapath.layout import Counter
from node_agent.datapath.maps import HostMaps
from node_agent.emulation import endpoints, fabric, hosts, processes
from node_agent.kernel import features, filters, links, netns
from node_agent.model.config import AgentConfig, UplinkMode, dump
from node_agent.model.errors import Permanent
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkHost,
    NetworkHostSpec,
    SetMember,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
)
from node_agent.model.places import StackPlaces
from node_agent.model.users import guarded
from node_agent.rows.image import MapImage
from node_agent.store.base import Store
from node_agent.store.open import open_store
from tests import probing
from tests.lab.network import READY
from tests.waiting import until

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = ("config", "vpcs", "subnets", "routes", "serving", "endpoints", "locals", "ports")
NAMES = ("host-1", "host-2", "host-3")


@dataclass
class Stack:
    """Three hosts with agents; all are the set of VPC blue, host-1 and host-2 bounce its one subnet, a /28."""

    places: StackPlaces
    store: Store

    def ask(self, host: str, request: Request) -> Reply:
        return client.persist(self.places.host(host).socket, request, 15.0)

    def add(self, host: str, name: str) -> str:
        """Address of a new endpoint."""
        endpoints.make(self.places, name)
        return self.ask(
            host,
            Request(
                verb="ADD",
                container_id=name,
                netns=str(self.places.netns_path(name)),
                vpc="blue",
                subnet="s1",
                workload=name,
            ),
        ).address

    def endpoint(self, name: str) -> NetworkEndpoint:
        return self.store.list(NetworkEndpoint, {"spec.workload": name})[0]

    def direct(self, source: str, target: str, number: int) -> str | None:
        """Why the echoes with this id do not go straight from host to host; None when they do."""
        here, there = self.endpoint(source), self.endpoint(target)
        flow = Flow(vni=7, proto=ICMP, src=here.spec.address, dst=there.spec.address, sport=number, dport=number)
        with StackFlows(self.places) as flows:
            return flows.answer(here.spec.host, Question(flow=flow, peer=there.status.host_address))

    def maps(self) -> dict[str, MapImage]:
        found = {}
        for name in NAMES:
            with HostMaps(self.places.host(name).maps) as maps:
                found[name] = {each: maps.read(each) for each in WRITTEN}
        return found

    def counter(self, which: Counter) -> int:
        total = 0
        for name in NAMES:
            with HostMaps(self.places.host(name).maps) as maps:
                total += maps.counters()[which]
        return total

    def pid(self, host: str) -> int:
        seen = processes.inspect(self.places.host(host).root, "agent")
        return seen.pid if seen else 0

    def ping(self, name: str, address: str) -> str:
        return probing.ping(self.places.netns_path(name), address, 2).reason


def start(places: StackPlaces, mode: UplinkMode) -> Stack:
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf")], check=True)
    fabric.make(places)
    store = open_store(f"sqlite:{places.store}")
    members = []
    for number, name in enumerate(NAMES):
        address = f"198.18.0.{11 + number}"
        members.append(SetMember(place=number, host=name, address=address))
        hosts.make(places, hosts.Spec(name=name, address=f"{address}/24"))
        store.create(NetworkHost(name=name, spec=NetworkHostSpec(address=address)))
        host = places.host(name)
        host.config.write_text(
            dump(
                AgentConfig(
                    host=name,
                    stack_id=places.id,
                    address=address,
                    uplink=hosts.UPLINK,
                    underlay_prefixes=("198.18.0.0/24",),
                    store=f"sqlite:{places.store}",
                    pins=str(host.pins),
                    socket=str(host.socket),
                    bpf_objects=str(ROOT / "bpf" / "build"),
                    mode=mode,
                    flow_entries=1024,
                )
            )
        )
        processes.start(
            processes.module(
                host.root, "agent", "node_agent.agent", "--config", str(host.config), netns=places.netns_path(name)
            )
        )
    store.create(guarded(Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"))))
    store.put_status(Vpc, "blue", VpcStatus(vni=7, members=tuple(members)))
    store.create(guarded(Subnet(name="s1", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/28"))))
    store.put_status(Subnet, "s1", SubnetStatus(bouncers=(0, 1)))
    until(
        lambda: all(store.get(NetworkHost, name).status.generations.keys() == {"blue"} for name in NAMES),
        READY,
        lambda: [places.host(name).log.read_text() for name in NAMES],
    )
    return Stack(places, store)


@pytest.mark.parametrize("mode", ["generic", "native", "tc"])
def test_packets_pass_in_every_mode_and_take_the_direct_path(places: StackPlaces, mode: UplinkMode) -> None:
    stack = start(places, mode)
    with contextlib.closing(stack.store):
        found = {name: stack.add(host, name) for host, name in zip(NAMES, ("anna", "bert", "carl"), strict=True)}
        for source in found:
            for target, address in found.items():
                if source != target:
                    answer = probing.ping(places.netns_path(source), address, 2)
                    assert answer.reason == "", (source, target)
                    assert stack.direct(source, target, answer.port) is None
        answered = Counter.QUERIES_ANSWERED_TC if mode == "tc" else Counter.QUERIES_ANSWERED_XDP
        assert stack.counter(answered) > 0
        modes = {p.hook: p.mode for p in stack.store.get(NetworkHost, "host-1").status.programs}
        assert modes == ({"tc": "tc"} if mode == "tc" else {"xdp": mode, "tc": "tc"})


def test_a_killed_agent_is_not_missed(places: StackPlaces) -> None:
    stack = start(places, "generic")
    with contextlib.closing(stack.store):
        stack.add("host-1", "anna")
        bert = stack.add("host-2", "bert")
        before, lost = stack.maps(), []

        def probe() -> None:
            lost.append(
                netns.run_in(
                    places.netns_path("anna"), ["ping", "-q", "-i", "0.01", "-c", "300", bert], 30.0, check=False
                ).stdout
            )

        thread = threading.Thread(target=probe)
        thread.start()
        killed = stack.pid("host-2")
        os.kill(killed, signal.SIGKILL)
        until(lambda: stack.pid("host-2") not in (0, killed), READY, "agent is back")
        assert stack.ask("host-2", Request(verb="STATUS")).code == 0
        thread.join()
        assert "300 packets transmitted, 300 received, 0% packet loss" in lost[0]
        assert stack.maps() == before


def test_what_is_taken_away_is_put_back(places: StackPlaces) -> None:
    stack = start(places, "generic")
    with contextlib.closing(stack.store):
        stack.add("host-1", "anna")
        bert = stack.add("host-2", "bert")
        before, host = stack.maps(), places.host("host-2")
        with links.opened(places.netns_path("host-2")) as net:
            filters.detach(net, hosts.UPLINK, "ingress")
        (host.links / "uplink").unlink()
        with HostMaps(host.maps) as maps:
            for name in ("locals", "serving", "endpoints"):
                maps.delete(name, maps.read(name))
        assert stack.ping("anna", bert) != ""
        damaged = stack.maps()
        with pytest.raises(Permanent, match=r"XDP.*transit_tc is not attached to uplink0.*rows differ"):
            stack.ask("host-2", Request(verb="STATUS"))
        assert stack.maps() == damaged
        assert stack.ask("host-2", Request(verb="REPAIR")).code == 0
        assert stack.ask("host-2", Request(verb="STATUS")).code == 0
        assert stack.maps() == before
        assert stack.ping("anna", bert) == ""
        with links.opened(places.netns_path("host-2")) as net:
            features.ensure(net, hosts.UPLINK, {features.TX_UDP_SEGMENTATION: True})
        with pytest.raises(Permanent, match="tx-udp-segmentation of uplink0 must be off"):
            stack.ask("host-2", Request(verb="STATUS"))


def test_a_subnet_is_filled_emptied_and_leaves_nothing(places: StackPlaces) -> None:
    stack = start(places, "generic")
    with contextlib.closing(stack.store):
        stack.add("host-3", "first")
        stack.ask("host-3", Request(verb="DEL", container_id="first"))
        until(lambda: not any(image["endpoints"] for image in stack.maps().values()), READY, "bouncers forget it")
        before = stack.maps()
        names = [f"e{i}" for i in range(13)]
        assert len({stack.add(NAMES[i % 3], name) for i, name in enumerate(names)}) == 13
        with pytest.raises(Permanent, match="all 13 of"):
            stack.add("host-1", "one-too-many")
        for i, name in enumerate(names):
            stack.ask(NAMES[i % 3], Request(verb="DEL", container_id=name))
        until(lambda: stack.maps() == before, READY, "rows are as before")
        assert stack.store.list(NetworkEndpoint) == []
        with links.opened(places.netns_path("host-3")) as net:
            assert [link.name for link in net.all() if link.kind == "veth"] == [hosts.UPLINK]
