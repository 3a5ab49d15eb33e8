"""Services of the cluster, who stands behind them, and what their namespaces wish: watched, and read without waiting.

The controller makes NetworkServices of them (`controller.service_keeper`), and tells here, as events, what it cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from node_agent.model.codec import Plain
from node_agent.model.errors import AlreadyExists
from node_agent.model.wishes import Wish, of_namespace, wish
from node_agent.store.kubernetes_http import Api
from node_agent.store.kubernetes_mirror import Mirror

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
NAMESPACES = "/api/v1/namespaces"
OF_SERVICE = "kubernetes.io/service-name"
REPORTER = "mizar-controller"


@dataclass(frozen=True, kw_only=True)
class Port:
    """Of a service: `port` of its address, `target` of its pods where that is a number, else 0. Of a slice: `port` is
    the one of its addresses, 0 for none in particular; `name` says which of the service's it is for. `protocol`: "TCP",
    "UDP" or "SCTP"."""

    name: str
    protocol: str
    port: int
    target: int = 0


@dataclass(frozen=True, kw_only=True)
class Service:
    """`addresses`: its cluster IPs, none of a headless one or an alias. `sticky`: by client address. `local`: it wants
    its clients to be served on their own node."""

    namespace: str
    name: str
    uid: str = ""
    wish: Wish
    addresses: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    sticky: bool = False
    local: bool = False

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One address of a slice. `pod`: `namespace/name` of the pod that has it, "" where no pod is named."""

    address: str
    pod: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of what stands behind the `service`. All of its targets have all of its ports."""

    service: str
    ports: tuple[Port, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, kw_only=True)
class News:
    """What changed, by `namespace/name` or name; None: it is gone, or of no concern any more."""

    services: Mapping[str, Service | None]
    slices: Mapping[str, Slice | None]
    namespaces: Mapping[str, Wish | None]


def read_service(raw: Plain) -> Service:
    """The service that the API server showed. Pure."""
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    name, namespace = metadata["name"], metadata["namespace"]
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return Service(
        namespace=namespace,
        name=name,
        uid=metadata.get("uid", ""),
        wish=wish(f"service {namespace}/{name}", metadata.get("annotations") or {}),
        addresses=tuple(each for each in addresses if each and each != "None" and spec.get("type") != "ExternalName"),
        ports=tuple(_port(each) for each in spec.get("ports") or ()),
        sticky=spec.get("sessionAffinity") == "ClientIP",
        local=spec.get("internalTrafficPolicy") == "Local",
    )


def read_slice(raw: Plain) -> Slice | None:
    """The slice; None when it is no service's, or of no IPv4 addresses. Pure."""
    metadata = raw["metadata"]
    service = (metadata.get("labels") or {}).get(OF_SERVICE)
    if not service or raw.get("addressType") != "IPv4":
        return None
    targets = tuple(_target(each) for each in raw.get("endpoints") or () if each.get("addresses"))
    return Slice(
        service=f"{metadata['namespace']}/{service}",
        ports=tuple(_port(each) for each in raw.get("ports") or ()),
        targets=targets,
    )


def read_namespace(raw: Plain) -> Wish:
    """What is wished for all that is in the namespace. Pure."""
    metadata = raw["metadata"]
    return of_namespace(metadata["name"], metadata.get("annotations") or {})


class Services:
    """`start` once; `take` from one thread at a time; `close` closes `api` too."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._services = Mirror(api, "watch services", SERVICES, read_service)
        self._slices = Mirror(api, "watch endpoint slices", SLICES, read_slice)
        self._namespaces = Mirror(api, "watch namespaces", NAMESPACES, read_namespace)
        self._mirrors: tuple[Mirror[Service] | Mirror[Slice] | Mirror[Wish], ...] = (
            self._services,
            self._slices,
            self._namespaces,
        )

    def start(self) -> None:
        for mirror in self._mirrors:
            mirror.start()

    def take(self) -> News | None:
        """What changed since the last call; None: not all is known yet."""
        if not all(mirror.listed for mirror in self._mirrors):
            return None
        return News(services=self._services.take(), slices=self._slices.take(), namespaces=self._namespaces.take())

    def tell(self, service: Service, message: str) -> None:
        """A warning among the events of the service; the same one again is one. Raises what the API server answers."""
        mark = hashlib.sha256(f"{service.uid} {message}".encode()).hexdigest()[:16]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{service.name}.{mark}", "namespace": service.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": service.namespace,
                "name": service.name,
                "uid": service.uid,
            },
            "type": "Warning",
            "reason": "Network",
            "message": message[:1024],
            "source": {"component": REPORTER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with contextlib.suppress(AlreadyExists):
            self._api.ask("tell event", "POST", f"{NAMESPACES}/{quote(service.namespace)}/events", body=body)

    def close(self) -> None:
        for mirror in self._mirrors:
            mirror.close()
        self._api.close()


def _port(raw: Plain) -> Port:
    target = raw.get("targetPort")
    return Port(
        name=raw.get("name") or "",
        protocol=raw.get("protocol") or "TCP",
        port=raw.get("port") or 0,
        target=target if isinstance(target, int) else 0,
    )


def _target(raw: Plain) -> Target:
    """A condition that is not given is as the API describes it: ready, serving when ready, not terminating."""
    conditions, pod = raw.get("conditions") or {}, raw.get("targetRef") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    return Target(
        address=raw["addresses"][0],  # those after it are equal to it, and to be left alone
        pod=f"{pod.get('namespace', '')}/{pod.get('name', '')}" if pod.get("kind") == "Pod" else "",
        ready=ready,
        serving=ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
    )
