"""An API server with Mizar's accounts, roles and policies, and stores that are opened as one of its accounts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from infra.render.access import AGENT, NAMESPACE
from infra.render.manifests import Wanted, manifests
from node_agent.kernel import netns
from node_agent.model.config import Listed
from node_agent.model.errors import MizarError
from node_agent.model.objects import Subnet, Vpc
from node_agent.store.base import Store
from node_agent.store.kubernetes_http import Api
from node_agent.store.open import open_store
from tests.contract.apiserver import ApiServer, empty, running
from tests.waiting import until

LISTED = Listed(address="198.18.0.10", port=443, protocol="tcp")
WANTED = Wanted(
    stack="contract",
    image="mizar.local/mizar@sha256:" + "0" * 64,
    underlay="198.18.0.0/24",
    vpc="blue",
    listed=(LISTED,),
)
HERE, THERE = "node-1", "node-2"
ADDRESSES = {HERE: "198.18.0.11", THERE: "198.18.0.12"}
PATIENCE = 20.0


def kubectl(server: ApiServer, *arguments: str, stdin: str = "") -> str:
    """What kubectl printed, its warnings included."""
    argv = [str(server.programs / "kubectl"), f"--kubeconfig={server.kubeconfig}", *arguments]
    done = netns.run_in(server.netns, argv, 60.0, stdin=stdin)
    return done.stdout + done.stderr


def apply(server: ApiServer) -> str:
    text = "\n---\n".join(json.dumps(each) for each in manifests(WANTED))
    return kubectl(server, "apply", "--server-side", "--field-manager=test", "--validate=strict", "-f-", stdin=text)


@contextlib.contextmanager
def ruled() -> Iterator[ApiServer]:
    """One of its own, with the manifests applied: its policies would meet every other test. Two nodes have an agent."""
    with running() as found:
        apply(found)
        with netns.enter(found.netns), found.api() as api:
            for name, address in ADDRESSES.items():
                node(api, name, address)
                pod(api, f"agent-{name}", name)
        yield found


def node(api: Api, name: str, address: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z"}},
    }
    api.ask("make node", "POST", "/api/v1/nodes", body=body)
    status = {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]}
    patch = [{"op": "add", "path": "/status/addresses", "value": status["addresses"]}]
    api.ask("tell address", "PATCH", f"/api/v1/nodes/{name}/status", body=patch)


def pod(api: Api, name: str, on: str) -> None:
    spec = {"serviceAccountName": AGENT, "nodeName": on, "containers": [{"name": "agent", "image": "none:1"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    api.ask("make pod", "POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body=body)


def token(api: Api, account: str, of_pod: str = "") -> str:
    """As the kubelet gets one for a pod; bound to nothing without a pod."""
    bound = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": of_pod}} if of_pod else {}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": bound}
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    return str(api.ask("ask for a token", "POST", path, body=body)["status"]["token"])


def url(server: ApiServer, folder: Path, account: str, of_pod: str = "") -> str:
    """The store's URL for an account, with the token of a pod. Its kubeconfig is written into the folder."""
    with server.api() as api:
        user = {"token": token(api, account, of_pod)}
    config: dict[str, Any] = yaml.safe_load(server.kubeconfig.read_text())
    config["users"] = [{"name": "it", "user": user}]
    config["contexts"] = [{"name": "it", "context": {"cluster": config["clusters"][0]["name"], "user": "it"}}]
    config["current-context"] = "it"
    path = folder / f"{account}-{of_pod}.conf"
    path.write_text(json.dumps(config))
    return f"kubernetes:{path}"


@contextlib.contextmanager
def administrator(server: ApiServer, ready: Callable[[Store], bool] = lambda _: True) -> Iterator[Store]:
    """The store of somebody who may do everything, in an empty cluster; the thread is where the server is meanwhile."""
    with netns.enter(server.netns):
        store = open_store(f"kubernetes:{server.kubeconfig}")
        until(lambda: ready(store), PATIENCE, "the cluster is as the test wants it")
        _empty(store)
        yield store
        _empty(store)
        store.close()


def _empty(store: Store) -> None:
    with contextlib.suppress(MizarError):
        for cls in (Vpc, Subnet):
            for obj in store.list(cls):  # what a controller said is in use would be refused
                store.put_status(cls, obj.name, replace(obj.status, conditions=()))
        empty(store)
