"""CoreDNS on the control plane's host, asked from another host: what it answers, by datagrams and streams, and what it
may do there."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.dns import DNS, DNSQR

from infra import images
from infra.providers.node_image import NodeImageProps, NodeImageProvider
from infra.render.dns import NAMESPACE, Names, name_server
from node_agent.emulation.cluster import machines, programs
from node_agent.kernel import cgroups, netns
from tests.lab import cluster
from tests.lab.cluster import CONTROL, Lab
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it
NO_SUCH_NAME = 3
BACKENDS = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "backends"},
    "spec": {
        "selector": {"matchLabels": {"app": "backend"}},
        "template": {
            "metadata": {"labels": {"app": "backend"}},
            "spec": {
                "hostNetwork": True,
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
                "containers": [{"name": "tool", "image": cluster.IMAGE}],
            },
        },
    },
}
HEADLESS = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "all"},
    "spec": {
        "clusterIP": "None",
        "selector": {"app": "backend"},
        # There is no network of pods, so no node is ready, and neither is any pod.
        "publishNotReadyAddresses": True,
        "ports": [{"name": "http", "port": 8080}],
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster without a network for pods, with its name server, and a headless service of one pod per worker."""
    subprocess.run([str(programs.SCRIPT)], check=True, stdin=subprocess.DEVNULL)
    built = images.coredns(programs.where().coredns / "coredns", tmp_path_factory.mktemp("images"))
    with cluster.made(__name__, control_node=True) as made:
        props = NodeImageProps(
            stack=made.places.id, host=CONTROL, reference=built.reference, archive=str(built.archive)
        )
        NodeImageProvider().ensure(props, None)
        made.apply(*name_server(names(made, built.reference)), BACKENDS, HEADLESS)
        wait = f"--timeout={PATIENCE:g}s"
        made.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/coredns", wait, timeout=PATIENCE + 10)
        made.kubectl("rollout", "status", "daemonset/backends", wait, timeout=PATIENCE + 10)
        yield made


def names(lab: Lab, image: str) -> Names:
    return Names(image=image, host=CONTROL, address=lab.cluster.address, services=lab.cluster.services)


def ask(lab: Lab, name: str, kind: str = "A", *, stream: bool = False) -> tuple[int, set[str]]:
    """Code of the answer and what it says, asked from a worker."""
    question = bytes(DNS(id=7, rd=1, qd=DNSQR(qname=name, qtype=kind)))
    server = (lab.cluster.address, 53)
    with netns.enter(lab.places.netns_path("worker-1")):
        if stream:
            with socket.create_connection(server, 5.0) as client:
                client.sendall(struct.pack("!H", len(question)) + question)
                with client.makefile("rb") as said:
                    answer = DNS(said.read(struct.unpack("!H", said.read(2))[0]))
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(5.0)
                client.sendto(question, server)
                answer = DNS(client.recv(4096))
    assert answer.id == 7
    return answer.rcode, {told(answer.an[number]) for number in range(answer.ancount)}


def told(record: object) -> str:
    data = getattr(record, "target" if hasattr(record, "target") else "rdata")
    return data.decode() if isinstance(data, bytes) else str(data)


@pytest.mark.parametrize("stream", [False, True], ids=["datagram", "stream"])
def test_services_are_known_by_name(lab: Lab, stream: bool) -> None:
    assert ask(lab, "kubernetes.default.svc.cluster.local", stream=stream) == (0, {"10.96.0.1"})
    assert ask(lab, "kube-dns.kube-system.svc.cluster.local", stream=stream) == (0, {"10.96.0.10"})


@pytest.mark.parametrize("stream", [False, True], ids=["datagram", "stream"])
def test_a_headless_service_is_its_pods(lab: Lab, stream: bool) -> None:
    workers = {spec.address for name, spec in lab.nodes.items() if name != CONTROL}
    assert len(workers) == 2
    until(
        lambda: ask(lab, "all.default.svc.cluster.local", stream=stream) == (0, workers),
        PATIENCE,
        "every pod's address",
    )


def test_ports_and_addresses_have_names(lab: Lab) -> None:
    assert ask(lab, "_https._tcp.kubernetes.default.svc.cluster.local", "SRV") == (
        0,
        {"kubernetes.default.svc.cluster.local."},
    )
    assert ask(lab, "1.0.96.10.in-addr.arpa", "PTR") == (0, {"kubernetes.default.svc.cluster.local."})


@pytest.mark.parametrize("name", ["nobody.default.svc.cluster.local", "example.com", "9.9.9.9.in-addr.arpa"])
def test_what_is_not_the_clusters_does_not_exist(lab: Lab, name: str) -> None:
    assert ask(lab, name) == (NO_SUCH_NAME, set())


def test_a_new_service_is_known_soon(lab: Lab) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "fresh"},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]},
    }
    lab.apply(service)
    until(lambda: ask(lab, "fresh.default.svc.cluster.local") == (0, {"10.96.7.7"}), PATIENCE, "the new name")


def test_it_is_nobody_with_one_capability(lab: Lab) -> None:
    [status] = [
        Path(f"/proc/{pid}/status").read_text()
        for pid in cgroups.processes(machines.cgroup(lab.places, CONTROL))
        if Path(f"/proc/{pid}/comm").read_text().strip() == "coredns"
    ]
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65532"] * 4
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {f"{1 << 10:016x}"}
    assert fields["NoNewPrivs"] == "1"


def test_it_listens_at_one_address_only(lab: Lab) -> None:
    with (
        netns.enter(lab.places.netns_path(CONTROL)),
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", 53), 5.0),
    ):
        pass
