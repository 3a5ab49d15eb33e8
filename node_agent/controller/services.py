"""Services of a cluster as services of VPCs: what the controller makes of a Service and of who stands behind it. Pure.

`service_keeper` calls `judge` for every service that something changed for, and does the `steps`. The VPC is the one
that the service, its namespace or the configuration names; a backend is a pod that lives in that very VPC. A service of
listed addresses of hosts is in every VPC: docs/adr/0013-services-of-kubernetes.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from node_agent.model.addresses import MAX_BACKENDS, MAX_PORTS
from node_agent.model.config import Listed
from node_agent.model.errors import Invalid
from node_agent.model.objects import (
    BackendPort,
    BackendState,
    NetworkEndpoint,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    ServicePort,
    Transport,
    Vpc,
)
from node_agent.model.wishes import Wish, nearest
from node_agent.store.kubernetes_services import Port, Service, Slice, Target

Key = tuple[str, str]
"""Something that a verdict depends on: NAMESPACE, VPC, SUBNET, WORKLOAD, ADDRESS or OBJECT, and which one."""
NAMESPACE, VPC, SUBNET, WORKLOAD, ADDRESS, OBJECT = "namespace", "vpc", "subnet", "workload", "address", "object"
EVERY_VPC: Key = (VPC, "")

NOBODYS = Wish(whose="default of the controller")
NAMED = 3  # addresses that a message names
TRANSPORTS: dict[str, Transport] = {"TCP": "tcp", "UDP": "udp"}
_RANK: dict[BackendState, int] = {"ready": 0, "serving": 1, "terminating": 2}
PortKey = tuple[Transport, int]  # of the service


@dataclass(frozen=True, kw_only=True)
class Network:
    """What services are judged by. `subnets`: name -> VPC. `workloads`: `namespace/pod` -> endpoints by name.
    `addresses`: (VPC, address) -> name of the endpoint that has it. `default`: the wish of the configuration."""

    namespaces: Mapping[str, Wish] = field(default_factory=dict)
    vpcs: Mapping[str, Vpc] = field(default_factory=dict)
    subnets: Mapping[str, str] = field(default_factory=dict)
    workloads: Mapping[str, Mapping[str, NetworkEndpoint]] = field(default_factory=dict)
    addresses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    default: Wish = NOBODYS
    listed: frozenset[Listed] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`specs`: by the name of the object. `said`: what of the service is not as its owner may expect, one phrase each.
    `meant`: what the configuration of the stack keeps from it, which is nobody's mistake. `depends`: a change of
    anything else changes nothing here."""

    specs: Mapping[str, NetworkServiceSpec] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    meant: tuple[str, ...] = ()
    depends: frozenset[Key] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What stands behind a service at one address. `targets`: where each port of the service arrives there."""

    target: Target
    targets: Mapping[PortKey, int]

    @property
    def state(self) -> BackendState:
        if self.target.ready:
            return "ready"
        return "terminating" if self.target.terminating else "serving"

    @property
    def whose(self) -> str:
        return f"{self.target.address} of pod {self.target.pod}" if self.target.pod else self.target.address


def object_name(source: str, vpc: str) -> str:
    """Of the NetworkService made of the Service `namespace/name` in a VPC. Neither part has a dot; others' names have
    none at all."""
    return f"{source.replace('/', '.')}.{vpc}"


def judge(service: Service, slices: Iterable[Slice], network: Network, had: Collection[NetworkService] = ()) -> Verdict:
    """What there should be. `slices`: of the service; `had`: what was made of it before."""
    if not service.addresses:
        return Verdict()  # headless, or another name for something: its names are all there is to it
    vip = next((each for each in service.addresses if ":" not in each), "")
    if not vip:
        return Verdict(said=("it has an IPv6 address only, and services of VPCs have IPv4 addresses",))
    asked: set[Key] = set()
    ports, said = _ports(service)
    if not ports:
        return Verdict(said=tuple(said))
    offers = _offers(ports, slices)
    meant: list[str] = []
    if _is_everywhere(offers, network, had, asked):
        asked.add(EVERY_VPC)
        vpcs = [name for name, vpc in network.vpcs.items() if not vpc.meta.deleting]
        offers = [_egress(offer, network, meant) for offer in offers]
    else:
        home = _home(service, network, asked, said)
        vpcs = [home] if home else []
    egress = EVERY_VPC in asked
    specs = {}
    for vpc in vpcs:
        asked.add((ADDRESS, f"{vpc}/{vip}"))
        if (vpc, vip) in network.addresses:
            said.append(
                f"in VPC {vpc} its address {vip} is that of endpoint {network.addresses[vpc, vip]}, which has it"
            )
            continue
        chosen = offers if egress else _inside(offers, vpc, network, asked, said)
        specs[object_name(service.key, vpc)] = _spec(service, vpc, vip, ports, chosen, said, egress=egress)
    return Verdict(
        specs=specs, said=tuple(dict.fromkeys(said)), meant=tuple(dict.fromkeys(meant)), depends=frozenset(asked)
    )


@dataclass(frozen=True, kw_only=True)
class Steps:
    """From what there is to what there should be. `foreign`: names that somebody else's objects have."""

    creates: tuple[NetworkService, ...] = ()
    updates: tuple[tuple[NetworkService, NetworkServiceSpec], ...] = ()
    removals: tuple[NetworkService, ...] = ()
    foreign: tuple[str, ...] = ()


def steps(wanted: Mapping[str, NetworkServiceSpec], source: str, known: Mapping[str, NetworkService]) -> Steps:
    """`known`: objects by name, those made of `source` and those that have a wanted name."""
    creates, updates, foreign = [], [], []
    for name, spec in wanted.items():
        found = known.get(name)
        if found is None:
            creates.append(NetworkService(name=name, spec=spec))
        elif found.spec.source != source:
            foreign.append(name)
        elif found.spec != spec:
            updates.append((found, spec))
    own = (found for name, found in known.items() if found.spec.source == source and name not in wanted)
    return Steps(creates=tuple(creates), updates=tuple(updates), removals=tuple(own), foreign=tuple(foreign))


# --- inside ---


def _home(service: Service, network: Network, asked: set[Key], said: list[str]) -> str:
    """The VPC that the service belongs to; "" when there is none, and then it is said why."""

    def vpc_of(subnet: str) -> str | None:
        asked.add((SUBNET, subnet))
        return network.subnets.get(subnet)

    asked.add((NAMESPACE, service.namespace))
    namespace = network.namespaces.get(service.namespace)
    if namespace is None:
        return ""  # it will be told; until then nobody knows to which VPCs it binds
    try:
        found = nearest([service.wish, namespace, network.default], vpc_of)
    except Invalid as error:
        said.append(str(error))
        return ""
    asked.add((VPC, found.vpc))
    vpc = network.vpcs.get(found.vpc)
    if vpc is None or vpc.meta.deleting:
        said.append(f"{found.whose}: vpc: there is no VPC {found.vpc!r}")
        return ""
    return found.vpc


def _ports(service: Service) -> tuple[dict[PortKey, Port], list[str]]:
    """Those that can be made, and what is said of the others."""
    found = {(TRANSPORTS[port.protocol], port.port): port for port in service.ports if port.protocol in TRANSPORTS}
    said = [
        f"port {port.port}/{port.protocol} is left out: services of VPCs have TCP and UDP"
        for port in service.ports
        if port.protocol not in TRANSPORTS
    ]
    if len(found) > MAX_PORTS:
        said.append(f"of its {len(found)} ports only the first {MAX_PORTS} are made")
        found = dict(list(found.items())[:MAX_PORTS])
    if service.local:
        said.append("internalTrafficPolicy is taken for Cluster: any backend may serve any client")
    return found, said


def _offers(ports: Mapping[PortKey, Port], slices: Iterable[Slice]) -> list[Offer]:
    """Every address behind the service once, with the ports of all slices that it is in. A pod that does not answer its
    probe keeps connections; datagrams may find another backend at any moment, and better do."""
    found: dict[tuple[str, str], Offer] = {}
    for each in slices:
        numbers = {(port.name, port.protocol): port.port for port in each.ports if port.port}
        reached = {
            key: numbers[port.name, port.protocol]
            for key, port in ports.items()
            if (port.name, port.protocol) in numbers
        }
        for target in each.targets:
            keeps = target.ready or target.serving
            targets = {key: number for key, number in reached.items() if keeps or key[0] == "tcp"}
            at = target.address, target.pod
            before = found.get(at)
            if before is not None:
                best = min(before, Offer(target=target, targets=targets), key=lambda offer: _RANK[offer.state])
                found[at] = replace(best, targets={**targets, **before.targets})
            elif targets:
                found[at] = Offer(target=target, targets=targets)
    return list(found.values())


def _is_everywhere(offers: list[Offer], network: Network, had: Collection[NetworkService], asked: set[Key]) -> bool:
    """Whether all that stands behind the service are listed addresses of hosts. While nothing does, one that was in
    several VPCs stays so: its pod is being replaced."""
    if not offers:
        return len({service.spec.vpc for service in had}) > 1
    for offer in offers:
        if offer.target.pod:
            asked.add((WORKLOAD, offer.target.pod))
        if _endpoints(offer, network) or not any(_is_listed(offer, key, network) for key in offer.targets):
            return False
    return True


def _is_listed(offer: Offer, key: PortKey, network: Network) -> bool:
    wanted = Listed(address=offer.target.address, port=offer.targets[key], protocol=key[0])
    return wanted in network.listed


def _egress(offer: Offer, network: Network, meant: list[str]) -> Offer:
    """The offer with its listed ports only: nothing else of a host is ever reached."""
    listed = {key: target for key, target in offer.targets.items() if _is_listed(offer, key, network)}
    for protocol, port in sorted(offer.targets.keys() - listed.keys()):
        number = offer.targets[protocol, port]
        meant.append(f"port {port}/{protocol.upper()} has no backend: {number} of {offer.whose} is not listed")
    return replace(offer, targets=listed)


def _endpoints(offer: Offer, network: Network) -> list[NetworkEndpoint]:
    """The pod's endpoints with the offered address; a pod of the host's network has none."""
    known = network.workloads.get(offer.target.pod, {}).values() if offer.target.pod else ()
    return [each for each in known if each.spec.address == offer.target.address and not each.meta.deleting]


def _inside(offers: list[Offer], vpc: str, network: Network, asked: set[Key], said: list[str]) -> list[Offer]:
    """What of it lives in the VPC. Another VPC may have the same address: it is the pod that counts, and the address
    where no pod is named."""
    found: dict[str, Offer] = {}
    strange = []
    for offer in sorted(offers, key=lambda each: (_RANK[each.state], each.whose)):
        address = offer.target.address
        if offer.target.pod:
            asked.add((WORKLOAD, offer.target.pod))
            lives = any(each.spec.vpc == vpc for each in _endpoints(offer, network))
        else:
            asked.add((ADDRESS, f"{vpc}/{address}"))
            lives = (vpc, address) in network.addresses
        if lives:
            found.setdefault(address, offer)
        else:
            strange.append(offer.whose)
    if strange:
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        said.append(f"no endpoint of VPC {vpc}, so no backend: {', '.join(strange[:NAMED])}{more}")
    return list(found.values())


def _spec(
    service: Service,
    vpc: str,
    vip: str,
    ports: Mapping[PortKey, Port],
    offers: list[Offer],
    said: list[str],
    *,
    egress: bool,
) -> NetworkServiceSpec:
    """Equal input in whatever order gives the equal spec."""
    offers = [offer for offer in offers if offer.targets]
    if len(offers) > MAX_BACKENDS:
        said.append(f"of its {len(offers)} backends only {MAX_BACKENDS} are used")
        offers = sorted(offers, key=lambda each: (_RANK[each.state], _number(each.target.address)))[:MAX_BACKENDS]
    common = {key: _common(key, port, offers) for key, port in ports.items()}
    last = not any(offer.state == "ready" for offer in offers)
    return NetworkServiceSpec(
        vpc=vpc,
        vip=vip,
        ports=tuple(
            ServicePort(protocol=key[0], port=key[1], target_port=common[key], name=port.name)
            for key, port in sorted(ports.items())
        ),
        backends=tuple(
            _backend(offer, common, last=last, egress=egress)
            for offer in sorted(offers, key=lambda each: _number(each.target.address))
        ),
        affinity="client" if service.sticky else "none",
        source=service.key,
    )


def _backend(offer: Offer, common: Mapping[PortKey, int], *, last: bool, egress: bool) -> ServiceBackend:
    """`last`: no backend is ready. Then those that end and still answer are better than none, as everywhere."""
    own = tuple(
        BackendPort(protocol=key[0], port=key[1], target_port=target) for key, target in sorted(offer.targets.items())
    )
    return ServiceBackend(
        address=offer.target.address,
        state="ready" if last and offer.target.terminating and offer.target.serving else offer.state,
        egress=egress,
        ports=() if offer.targets == common else own,
    )


def _common(key: PortKey, port: Port, offers: list[Offer]) -> int:
    """Where most backends have the port, so that only the others need to say it."""
    counts = Counter(offer.targets[key] for offer in offers if key in offer.targets)
    return min(counts, key=lambda target: (-counts[target], target)) if counts else port.target or port.port


def _number(address: str) -> tuple[int, ...]:
    return tuple(int(part) for part in address.split("."))
