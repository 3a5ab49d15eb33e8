"""ADD, DEL and CHECK of endpoints on this host. Called by `server` for requests, by `host` for removals from outside.

Every verb may be killed at any step and repeated: the object in the store comes first and goes last, the veth's name
follows from the claim, and the rows follow from both.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from node_agent.agent import acknowledge, claims
from node_agent.agent.kernel import Device, Kernel
from node_agent.agent.log import Log
from node_agent.agent.moves import Moves, moving
from node_agent.agent.tables import Tables
from node_agent.cni.protocol import Reply, Request
from node_agent.model.addresses import endpoint_mac, gateway, pod_mtu
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Conflict, Invalid, NotFound, Permanent, Temporary
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    Subnet,
    Vpc,
    stays,
)
from node_agent.model.places import veth_name
from node_agent.model.users import ENDPOINT_FINALIZER
from node_agent.store.base import Store

_LOCKS = 64


class Endpoints:
    """The endpoints of one host. Any thread may call; requests about one interface wait for each other.

    Raises Invalid (the request cannot be meant), Permanent, Temporary (the same request may succeed later).
    """

    def __init__(
        self,
        config: AgentConfig,
        store: Store,
        tables: Tables,
        kernel: Kernel,
        log: Log,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._config, self._store, self._tables, self._kernel = config, store, tables, kernel
        self._log = log
        self._monotonic, self._sleep = monotonic, sleep
        self._interfaces = tuple(threading.Lock() for _ in range(_LOCKS))
        # Held from the making or removing of a device to its rows: whoever compares the two finds them agreeing.
        self._devices = threading.Lock()
        self._had: set[tuple[str, str]] = set()  # (name, uid) of the endpoints that were here at the last `sweep`
        self._moves = Moves(config, store, tables, kernel, log, self._devices, monotonic=monotonic, sleep=sleep)

    def add(self, request: Request) -> Reply:
        """An interface in the request's namespace that can reach and be reached."""
        vpc, subnet = self._parents(request)
        netns = Path(request.netns)
        if not self._kernel.namespace_exists(netns):
            raise Invalid([f"netns: {request.netns} is no network namespace"])
        asked = acknowledge.bouncers(vpc, subnet)
        if not asked:
            raise Temporary(f"add endpoint to {subnet.name}: none of its bouncers may be asked yet")
        with self._alone(veth_name(request.container_id, request.interface)):
            endpoint = self._claimed(request, vpc, subnet)
            device = self._device(endpoint, vpc, netns)
            if moving(endpoint, self._config.host):
                endpoint = self._moves.take_over(endpoint, vpc, subnet, device, asked)
            else:
                endpoint = self._attach(endpoint, vpc, subnet, device, asked)
        return _reply(endpoint, subnet, device)

    def delete(self, request: Request) -> Reply:
        """Nothing of the interface is left, here or in the store; absent is success."""
        veth = veth_name(request.container_id, request.interface)
        with self._alone(veth):
            for endpoint in claims.find(self._store, self._config.host, request.container_id, request.interface):
                self._remove(endpoint)
            with self._devices:
                self._kernel.remove_endpoint(veth)
        return Reply()

    def check(self, request: Request) -> Reply:
        """The endpoint as ADD answered. Raises Permanent when it is not as ADD left it."""
        found = claims.find(self._store, self._config.host, request.container_id, request.interface)
        if not found:
            raise Permanent(f"check endpoint {request.container_id}/{request.interface}: there is none")
        endpoint = found[0]
        vpc, subnet = self._store.get(Vpc, endpoint.spec.vpc), self._store.get(Subnet, endpoint.spec.subnet)
        device = self._device(endpoint, vpc, Path(request.netns))
        problems = self._kernel.check_endpoint(device) if request.netns else []
        if self._kernel.endpoint_links().get(device.veth) != self._tables.world.links.get(endpoint.name, -1):
            problems.append(f"{device.veth} is not the device in this host's rows")
        if problems:
            raise Permanent(f"check endpoint {endpoint.name}: " + "; ".join(problems))
        return _reply(endpoint, subnet, device)

    def attend(self, endpoint: NetworkEndpoint) -> None:
        """Whatever is due for an endpoint of `Tables.own`: that it moved away, or that its removal was begun."""
        if not stays(endpoint, self._config.host):
            self._moves.leave(endpoint)
            return
        self._moves.stay(endpoint)
        if endpoint.meta.deleting:
            self._finish(endpoint)

    def sweep(self) -> list[str]:
        """As `adopt`, once an endpoint that was here is no concern of this host's any more: removed, or wanted
        elsewhere, before its time here was over. Nothing to do else."""
        own = {(endpoint.name, endpoint.meta.uid) for endpoint in self._tables.own()}
        done = self.adopt() if self._had - own else []
        self._moves.keep(own)
        self._had = own  # not before: what failed is tried again
        return done

    def adopt(self) -> list[str]:
        """Bring the devices that are there together with the endpoints that were claimed for them, and remove those
        of no endpoint. Returns what had to be done, one sentence each."""
        with self._devices:
            changed, strays = self._changed(), self._strays()
            for name, ifindex in changed.items():
                self._tables.link(name, ifindex)
            for veth in strays:
                self._kernel.remove_endpoint(veth)
        return _sentences(changed, strays)

    def differences(self) -> list[str]:
        """What `adopt` would change, one sentence each. Changes nothing."""
        with self._devices:
            return _sentences(self._changed(), self._strays())

    # --- inside ---

    def _parents(self, request: Request) -> tuple[Vpc, Subnet]:
        """The request's VPC and subnet, if endpoints can be made in them."""
        mistakes = []
        vpc, subnet = None, None
        try:
            vpc = self._store.get(Vpc, request.vpc)
        except NotFound:
            mistakes.append(f"vpc: there is no VPC {request.vpc!r}")
        try:
            subnet = self._store.get(Subnet, request.subnet)
        except NotFound:
            mistakes.append(f"subnet: there is no subnet {request.subnet!r}")
        if subnet and subnet.spec.vpc != request.vpc:
            mistakes.append(f"subnet: {request.subnet} belongs to VPC {subnet.spec.vpc}, not to {request.vpc}")
        mistakes += [
            f"{obj.kind.lower()}: {obj.name} is being removed" for obj in (vpc, subnet) if obj and obj.meta.deleting
        ]
        if mistakes or vpc is None or subnet is None:
            raise Invalid(mistakes)
        if not vpc.status.vni:
            raise Temporary(f"add endpoint to {vpc.name}: the controller has not given it a VNI yet")
        return vpc, subnet

    def _claimed(self, request: Request, vpc: Vpc, subnet: Subnet) -> NetworkEndpoint:
        """The claim an earlier ADD made, or a new one."""
        spec = NetworkEndpointSpec(
            vpc=vpc.name,
            subnet=subnet.name,
            address=request.address,
            host=self._config.host,
            container_id=request.container_id,
            interface=request.interface,
            workload=request.workload,
        )
        for found in claims.find(self._store, self._config.host, request.container_id, request.interface):
            same = (found.spec.vpc, found.spec.subnet) == (vpc.name, subnet.name)
            if found.meta.deleting:
                self._remove(found)
            elif same and request.address in ("", found.spec.address):
                return found
            else:
                raise Invalid(
                    [
                        f"container_id: {request.container_id} has {found.spec.address} in "
                        f"{found.spec.subnet} for {request.interface} already"
                    ]
                )
        own = {e.spec.address for e in self._tables.own() if e.spec.subnet == subnet.name}
        return claims.claim(self._store, vpc.status.vni, subnet, spec, own)

    def _device(self, endpoint: NetworkEndpoint, vpc: Vpc, netns: Path) -> Device:
        spec = endpoint.spec
        return Device(
            netns=netns,
            interface=spec.interface,
            veth=claims.veth(endpoint),
            address=spec.address,
            mac=endpoint_mac(vpc.status.vni, spec.address),
            mtu=pod_mtu(self._kernel.uplink().mtu),
        )

    def _attach(
        self, endpoint: NetworkEndpoint, vpc: Vpc, subnet: Subnet, device: Device, asked: Mapping[str, str]
    ) -> NetworkEndpoint:
        """Interface and rows of an endpoint that no other host has; returns when its bouncers in `asked` know it."""
        with self._devices:
            ifindex = self._kernel.make_endpoint(device)
            self._tables.put(vpc, subnet, endpoint)
            self._tables.link(endpoint.name, ifindex)
        held = NetworkEndpointStatus(
            host=self._config.host, host_address=self._config.address, previous_host=endpoint.status.previous_host
        )
        endpoint = self._store.put_status(NetworkEndpoint, endpoint.name, held, uid=endpoint.meta.uid)
        self._tables.put(endpoint)
        served = acknowledge.wait_served(
            endpoint,
            vpc.status.vni,
            asked,
            (self._config.host, self._config.address),
            self._tables,
            self._kernel,
            monotonic=self._monotonic,
            sleep=self._sleep,
        )
        if served != asked.keys():
            self._log.warning(
                "endpoint not known to every bouncer yet", endpoint=endpoint.name, missing=sorted(asked.keys() - served)
            )
        self._log.info("endpoint added", endpoint=endpoint.name, workload=endpoint.spec.workload)
        return endpoint

    def _finish(self, endpoint: NetworkEndpoint) -> None:
        """Complete a removal that somebody began in the store."""
        with self._alone(claims.veth(endpoint)):
            if endpoint in self._tables.own():  # else the DEL that began it was quicker
                self._remove(endpoint)

    def _remove(self, endpoint: NetworkEndpoint) -> None:
        """Marked in the store first: bouncers forget it, a killed removal is found again. The address is freed last."""
        uid, vni = endpoint.meta.uid, int(endpoint.name.partition("-")[0])
        with contextlib.suppress(Conflict):  # the address is another's by now; ours is only what is here
            self._store.delete(NetworkEndpoint, endpoint.name, uid=uid)
        with self._devices:
            self._tables.link(endpoint.name, 0)
            self._tables.gone(NetworkEndpoint.kind, endpoint.name)
            self._kernel.remove_endpoint(claims.veth(endpoint))
        self._tables.purge_flows(vni, endpoint.spec.address)
        if endpoint.status.host in ("", self._config.host):  # else it was on its way here, and another has it still
            self._store.drop_finalizer(NetworkEndpoint, endpoint.name, ENDPOINT_FINALIZER, uid=uid)
        self._log.info("endpoint removed", endpoint=endpoint.name, workload=endpoint.spec.workload)

    def _changed(self) -> dict[str, int]:
        """Name -> ifindex as it is (0: none), of the endpoints whose device is another than the rows say."""
        links, world = self._kernel.endpoint_links(), self._tables.world
        own = {e.name: links.get(claims.veth(e), 0) for e in self._tables.own()}
        return {
            name: own.get(name, 0)
            for name in sorted({*own, *world.links})
            if world.links.get(name, 0) != own.get(name, 0)
        }

    def _strays(self) -> list[str]:
        """Names of devices made for endpoints that are none of this host's, by the store's word too: an endpoint is
        there before its device is."""
        strays = self._kernel.endpoint_links().keys() - {claims.veth(e) for e in self._tables.own()}
        if strays:
            strays -= {claims.veth(e) for e in claims.of(self._store, self._config.host)}
        return sorted(strays)

    def _alone(self, veth: str) -> threading.Lock:
        """Requests about one interface wait for each other, and now and then for another's."""
        return self._interfaces[int(veth[2:], 16) % _LOCKS]


def _sentences(changed: Iterable[str], strays: Iterable[str]) -> list[str]:
    found = [f"the device of endpoint {name} is not the one in this host's rows" for name in changed]
    return found + [f"the device {veth} is of no endpoint of this host" for veth in strays]


def _reply(endpoint: NetworkEndpoint, subnet: Subnet, device: Device) -> Reply:
    return Reply(
        endpoint=endpoint.name,
        address=endpoint.spec.address,
        gateway=gateway(subnet.spec.cidr),
        mac=device.mac,
        mtu=device.mtu,
    )
