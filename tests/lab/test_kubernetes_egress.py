"""Pods of every VPC reach the API server by its service's address: on the control plane's own host and on another."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.kernel import links, outlet
from node_agent.model.config import Listed
from node_agent.model.objects import NetworkService, NetworkServiceSpec, ServiceBackend, ServicePort
from node_agent.model.resources import to_resource
from tests.lab import mizar, traffic
from tests.lab.cluster import CONTROL, Lab
from tests.lab.mizar import PATIENCE, addresses, pod, space
from tests.waiting import until

pytestmark = pytest.mark.root

ADDRESS, PORT = "198.18.0.10", 443
VIP = "10.96.0.1"  # what the server's certificate names
VPCS = {"blue": "front", "red": "red-a"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The control plane's host and another, both nodes; in either VPC the API server's address is a service."""
    listed = (Listed(address=ADDRESS, port=PORT, protocol="tcp"),)
    with mizar.made(__name__, workers=1, control_node=True, listed=listed) as made:
        for vpc in VPCS:
            spec = NetworkServiceSpec(
                vpc=vpc,
                vip=VIP,
                ports=(ServicePort(protocol="tcp", port=PORT, target_port=PORT),),
                backends=(ServiceBackend(address=ADDRESS, egress=True),),
            )
            made.apply(to_resource(NetworkService(name=f"{vpc}-api", spec=spec)))
        yield made


def version(lab: Lab, where: Path) -> str:
    """What the API server says of itself to somebody in that namespace, who makes sure that it is the API server."""
    authority = json.loads(lab.admin)["clusters"][0]["cluster"]["certificate-authority-data"]
    context = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    with traffic.connect(where, VIP, PORT) as plain, context.wrap_socket(plain, server_hostname=VIP) as sock:
        sock.sendall(f"GET /version HTTP/1.1\r\nHost: {VIP}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 "), answer
    return str(json.loads(body)["gitVersion"])


def test_pods_of_both_vpcs_on_both_hosts_reach_the_api_server(lab: Lab) -> None:
    pods = {f"{vpc}-{node}": (vpc, node) for vpc in VPCS for node in lab.nodes}
    lab.apply(*(pod(name, node, vpc=vpc, subnet=VPCS[vpc]) for name, (vpc, node) in pods.items()))
    addresses(lab, *pods)
    with links.opened(lab.places.netns_path(CONTROL)) as net:
        assert net.get(outlet.STACK_SIDE)
    for name, (_, node) in pods.items():
        where = space(lab, node, name)
        found = until(lambda where=where: _tried(lab, where), PATIENCE, f"the API server, of {name}")
        assert found.startswith("v1."), found
    mizar.clean(lab)


def _tried(lab: Lab, where: Path) -> str:
    """As `version`; "" while the service is not everywhere yet."""
    try:
        return version(lab, where)
    except OSError:
        return ""
