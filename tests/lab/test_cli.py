"""`mizar flows`, `drops`, `trace`, `metrics` and `rebalance` on a network of real agents."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.providers import objects
from node_agent.cli import drops, flows, metrics, stage, trace
from node_agent.datapath import elements, inner
from node_agent.datapath.layout import Counter, FlowEntry
from node_agent.emulation import processes
from node_agent.metrics import server
from node_agent.model.errors import Permanent
from node_agent.model.objects import (
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    ServicePort,
)
from node_agent.rows.config import RENEW
from tests.lab import traffic
from tests.lab.network import READY, ROOT, Network, made
from tests.lab.tracing import traced, untouched, way
from tests.waiting import until

pytestmark = pytest.mark.root

PORT = 8080


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """VPC `red` with a set of three of five hosts; anna and bert live outside of it, carl on a member."""
    with made(request, 5) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        one, two = network.outside("red")
        network.add("anna", "red-a", one)
        network.add("bert", "red-b", two)
        network.add("carl", "red-a", network.members("red")[0])
        network.add("dora", "red-a", one)
        yield network


@pytest.mark.parametrize("how", [{}, {"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53}])
def test_a_first_packet_asks_and_leaves_no_byte_behind(network: Network, how: dict[str, Any]) -> None:
    told = traced(network, "anna", "bert", **how)
    anna, bert = network.pods["anna"].host, network.pods["bert"].host
    sends = way(told)
    assert sends[0] == (anna, "query")
    assert sends[1][0] in network.members("red") and sends[1][1] == "verdict"
    assert sends[-1] == (bert, "")
    assert told["outcome"] == {"result": "delivered", "detail": "to bert", "host": bert}
    assert told["live"]["used"] is False
    said = " | ".join(sentence for step in told["steps"] for sentence in step["did"])
    for words in ("miss: no entry", f"asks {sends[1][0]}", f"it is on {bert}", "installs an entry", "learns an entry"):
        assert words in said


def test_nobody_there_a_spoiled_question_and_one_s_own_gateway(network: Network) -> None:
    told = traced(network, "anna", "10.20.2.77")
    assert (told["outcome"]["result"], told["steps"][-1]["dropped"]) == ("dropped", "unknown_destination")
    told = traced(network, "anna", "10.20.1.1")
    assert told["outcome"]["result"] == "answered"
    with pytest.raises(Permanent, match="find endpoint nobody: there is none; there are anna, bert, carl, dora"):
        traced(network, "nobody", "bert")
    with pytest.raises(Permanent, match="find nobody in VPC red: there is none; there are anna, bert, carl, dora"):
        traced(network, "anna", "nobody")


def test_an_address_that_only_another_vpc_has(network: Network) -> None:
    network.vpc("twin", "10.20.0.0/16", {"twin-a": "10.20.1.0/24"})
    spy = network.add("spy", "twin-a", network.pods["anna"].host, "10.20.1.200", workload=False)
    anna = network.pods["anna"].host
    told = traced(network, "anna", spy.address)
    assert (told["outcome"]["result"], told["outcome"]["host"]) == ("dropped", anna)
    assert told["steps"][-1]["dropped"] == "unknown_destination"
    assert told["notes"] == ["VPC twin has it (spy), which VPC red cannot reach"]
    with pytest.raises(Permanent, match=r"find spy in VPC red: it is in VPC twin; give its address, 10\.20\.1\.200"):
        traced(network, "anna", "spy")
    network.remove(spy)


def test_same_host_and_a_member_s_own_question(network: Network) -> None:
    anna = network.pods["anna"].host
    told = traced(network, "anna", "dora")
    assert told["steps"][-1]["host"] == anna and told["outcome"]["result"] == "delivered"
    told = traced(network, "carl", "anna")
    assert told["outcome"] == {"result": "delivered", "detail": "to anna", "host": anna}


def test_a_question_that_is_passed_on(network: Network) -> None:
    subnets = {f"wide-{n}": f"10.40.{n}.0/24" for n in range(8)}
    network.vpc("wide", "10.40.0.0/16", subnets, set_size=5)
    asked = {subnet: set(network.bouncers(subnet)) for subnet in subnets}
    here, there = next((a, b) for a in subnets for b in subnets if not asked[a] & asked[b])
    # Not on a bouncer of its own subnet: every leg goes over the wire.
    first = next(host for host in network.hosts if host not in asked[here])
    network.add("fred", here, first, workload=False)
    network.add("gina", there, next(host for host in network.hosts if host != first), workload=False)
    told = traced(network, "fred", "gina")
    assert told["outcome"]["result"] == "delivered"
    said = [sentence for step in told["steps"] for sentence in step["did"]]
    assert any("passes the question on to" in sentence for sentence in said)
    assert any(sentence.endswith("by way of a divider") for sentence in said)


def test_a_live_entry_is_seen_and_followed(network: Network) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    with traffic.tcp_socket(anna.netns) as sock:
        sock.settimeout(READY)
        sock.connect((bert.address, PORT))
        port = sock.getsockname()[1]
        shown = flows.collect(network.places, anna.host, endpoint="anna")
        mine = [one for one in shown["flows"] if one["source"]["port"] == port]
        assert [(one["kind"], one["peer"], one["state"]) for one in mine] == [("asked", bert.host, "live")]
        assert mine[0]["destination"] == {"address": bert.address, "port": PORT, "name": "bert"}
        assert 0 <= mine[0]["age"] < READY and 0 <= mine[0]["idle"] < READY and 0 < mine[0]["fresh"] <= 30
        assert "bert:8080" in flows.text(shown)
        learned = flows.collect(network.places, bert.host, vpc="red")["flows"]
        assert ("learned", anna.host) in {(one["kind"], one["peer"]) for one in learned}

        time.sleep(RENEW + 0.1)  # a SYN would now begin another connection
        followed = traced(network, "anna", "bert", protocol="tcp", port=PORT, source_port=port)
        assert followed["live"]["used"] and followed["steps"][0]["sends"] == "data"
        assert [step["host"] for step in followed["steps"]] == [anna.host, bert.host, bert.host]
        assert "hit: entry ASKED" in followed["steps"][0]["did"][0]
        other = traced(network, "anna", "bert", protocol="tcp", port=PORT)
        assert not other["live"]["used"] and other["steps"][0]["sends"] == "query"
        assert f"--source-port: {port} (to {bert.host})" in trace.text(other)
        assert port in {one["source"]["port"] for one in other["live"]["others"]}


def test_an_old_entry_is_followed_without_a_question_on_the_wire(network: Network) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    with traffic.tcp_socket(anna.netns) as sock:
        sock.settimeout(READY)
        sock.connect((bert.address, PORT))
        port = sock.getsockname()[1]

        def is_told() -> bool:
            _age(network, anna.host)  # again, should a packet of the connection have asked meanwhile
            told = traced(network, "anna", "bert", protocol="tcp", port=PORT, source_port=port)
            return "the entry is old: a copy of the packet would ask about it again" in told["steps"][0]["did"]

        until(is_told, READY, "the entry's age")


def _age(network: Network, host: str) -> None:
    """Every entry of the host is as if it had been confirmed long ago."""
    with inner.tables(network.places.host(host).maps, "flows") as tables:
        for fd in tables.values():
            for key, value in inner.rows(fd, "flows").items():
                entry = FlowEntry.unpack(value)
                changed = {field.name: getattr(entry, field.name) for field in FlowEntry.FIELDS}
                changed["confirmed"] = (entry.confirmed - 1_000_000) & 0xFFFFFFFF
                elements.update(fd, key, FlowEntry(**changed).pack())


VIP, VIP_PORT = "10.20.9.9", 80


@pytest.fixture(scope="module")
def service(network: Network) -> NetworkService:
    """bert behind a VIP, known to every member of the set."""
    spec = NetworkServiceSpec(
        vpc="red",
        vip=VIP,
        ports=(ServicePort(protocol="tcp", port=VIP_PORT, target_port=PORT),),
        backends=(ServiceBackend(address=network.pods["bert"].address),),
    )
    made = objects.put(network.store, NetworkService, "web", spec)
    for host in network.members("red"):
        until(lambda host=host: _rows(network, host, "services"), READY, f"service on {host}")
    return made


def _rows(network: Network, host: str, name: str) -> dict[bytes, bytes]:
    with network.maps(host) as maps:
        return maps.read(name)


def test_a_service_s_backend_is_chosen_and_the_pair_shown(network: Network, service: NetworkService) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    told = traced(network, "anna", service.name, protocol="tcp", port=VIP_PORT)
    assert told["outcome"] == {"result": "delivered", "detail": "to bert", "host": bert.host}
    said = " | ".join(sentence for step in told["steps"] for sentence in step["did"])
    assert f"backend {bert.address}:{PORT}" in said and "installs a NAT pair" in said
    with traffic.tcp_socket(anna.netns) as sock:
        sock.settimeout(READY)
        sock.connect((VIP, VIP_PORT))
        port = sock.getsockname()[1]
        shown = flows.collect(network.places, anna.host, vpc="red")
        pair = {one["nat"]: one for one in shown["nats"] if port in (one["source"]["port"], one["destination"]["port"])}
        assert pair["forward"]["becomes"]["destination"] == f"{bert.address}:{PORT}"
        assert pair["reverse"]["becomes"]["source"] == f"{VIP}:{VIP_PORT}"
        assert {one["state"] for one in pair.values()} == {"live"}
        assert "BECOMES" in flows.text(shown)
        time.sleep(RENEW + 0.1)  # a SYN would now begin another connection
        followed = traced(network, "anna", VIP, protocol="tcp", port=VIP_PORT, source_port=port)
        assert followed["live"]["used"] and "hit: NAT entry" in followed["steps"][0]["did"][0]
        assert followed["outcome"]["host"] == bert.host


def test_the_ping_of_a_service_is_answered(network: Network, service: NetworkService) -> None:
    assert traced(network, "anna", service.name)["outcome"]["result"] == "answered"


def test_a_port_that_a_service_does_not_have(network: Network, service: NetworkService) -> None:
    told = traced(network, "anna", service.name, protocol="udp", port=9)
    assert told["outcome"]["result"] == "dropped"
    assert told["notes"] == [f"service web has no udp port 9; it has tcp {VIP_PORT}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_trace_leaves_nothing_for_long(network: Network, number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "node_agent.cli.main", "trace", "anna", "bert", "--stack-id", network.places.id]

    def killed(hosts: int) -> None:
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            folder, seen = network.places.bpffs / f"trace_{process.pid}", set[str]()

            def is_there() -> bool:
                with contextlib.suppress(FileNotFoundError):
                    seen.update(path.name for path in folder.iterdir())
                return len(seen) >= hosts

            try:
                until(is_there, READY, f"stage {hosts}", 0.001)
            finally:
                process.send_signal(number)
        # Told to stop in the middle of one of libbpf's calls, it may as well go on to its end.
        assert process.returncode == -number or number == signal.SIGTERM
        stage.swept(network.places)

    for hosts in (1, 2, 3):  # on whose stage the packet was; there are three on its way
        untouched(network, lambda hosts=hosts: killed(hosts))


def test_the_commands_print_json(network: Network) -> None:
    for arguments in (["trace", "anna", "bert"], ["drops"], ["flows", "host-1"], ["rebalance", "--dry-run"]):
        argv = [sys.executable, "-m", "node_agent.cli.main", *arguments, "--json", "--stack-id", network.places.id]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) is not None


def test_drops_are_told_by_reason_vpc_and_host(network: Network) -> None:
    anna = network.pods["anna"]

    def told() -> dict[tuple[str, str, str], int]:
        return {(one["reason"], one["vpc"], one["host"]): one["packets"] for one in drops.collect(network.places)}

    before, lost = told(), ("unknown_destination", "red", anna.host)
    with traffic.udp_socket(anna.netns) as sock:
        for _ in range(3):
            sock.sendto(b"x", ("10.20.2.99", 9))
    until(lambda: told().get(lost, 0) >= before.get(lost, 0) + 3, READY, "drops")
    assert told() == {**before, lost: before.get(lost, 0) + 3}
    row = next(line for line in drops.text(drops.collect(network.places, anna.host)).splitlines() if lost[0] in line)
    assert row.split()[:4] == [*lost, str(told()[lost])] and "nobody in the VPC has" in row


def test_figures_of_agents_and_controller(network: Network) -> None:
    anna = network.pods["anna"]
    found = metrics.samples(metrics.fetch(network.places, anna.host))

    def value(name: str, **labels: str) -> float:
        hits = [one["value"] for one in found if one["name"] == name and labels.items() <= one["labels"].items()]
        assert len(hits) == 1, (name, labels, hits)
        return float(hits[0])

    assert value("mizar_endpoints", vpc="red") == 2
    assert 0 <= value("mizar_heartbeat_age_seconds") < READY
    assert value("mizar_request_seconds_count", verb="ADD", outcome="ok") >= 2
    assert value("mizar_flow_entries_max", vpc="red") == 16384
    assert value("mizar_map_entries", map="locals") == 2
    assert value("mizar_map_entries", map="ports") == len(_rows(network, anna.host, "ports"))
    seen = metrics.samples(metrics.fetch(network.places, "controller"))
    assert {"name": "mizar_set_members", "labels": {"vpc": "red", "state": "active"}, "value": 3.0} in seen
    assert (network.places.host(anna.host).root / "metrics.sock").stat().st_mode & 0o777 == 0o600


def test_figures_are_what_the_maps_hold(network: Network) -> None:
    host = network.pods["anna"].host

    def held() -> dict[tuple[str, ...], float]:
        with network.maps(host) as maps:
            events: dict[tuple[str, ...], float] = {(one.name.lower(),): n for one, n in maps.counters().items()}
            names = {network.vni("red"): "red", 0: ""}
            return events | {
                (reason.name.lower(), names.get(vni, str(vni))): n for (vni, reason), n in maps.drops().items()
            }

    def told() -> dict[tuple[str, ...], float]:
        found = metrics.samples(metrics.fetch(network.places, host))
        events = {(o["labels"]["event"],): o["value"] for o in found if o["name"] == "mizar_events_total"}
        drops = [o for o in found if o["name"] == "mizar_drops_total"]
        return events | {(o["labels"]["reason"], o["labels"]["vpc"]): o["value"] for o in drops}

    assert set(held()) >= {(one.name.lower(),) for one in Counter if one.name != "COUNT"}
    until(lambda: held() == told() == held(), READY, "figures that agree with the maps")
    assert told()["queries_sent",] > 0


def test_figures_of_nobody_are_a_clear_error(network: Network, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="is the process running"):
        server.fetch(tmp_path / "metrics.sock")
    with pytest.raises(Permanent, match="find host host-9: there is none"):
        metrics.fetch(network.places, "host-9")


def test_figures_come_back_with_the_agent(network: Network) -> None:
    host = network.pods["bert"].host
    pid = network.agent(host).pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.inspect(network.places.host(host).root, "agent").pid not in (0, pid), READY, "new agent")  # type: ignore[union-attr]
    until(lambda: network.ready(host), READY, "agent ready")
    until(lambda: "mizar_endpoints" in metrics.fetch(network.places, host), READY, "figures")
