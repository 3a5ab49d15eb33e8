"""ADD, DEL and CHECK of endpoints on this host. Called by `server` for requests, by `host` for removals from outside.

Every verb may be killed at any step and repeated: the object in the store comes first and goes last, the veth's name
follows from the claim, and the rows follow from both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from node_agent.agent import acknowledge, claims
from node_agent.agent.beside import Beside
from node_agent.agent.devices import Devices
from node_agent.agent.kernel import Device, Kernel
from node_agent.agent.log import Log
from node_agent.agent.moves import Moves, moving
from node_agent.agent.parents import parents
from node_agent.agent.stages import Stages
from node_agent.agent.tables import Tables
from node_agent.agent.turns import Turns
from node_agent.cni.protocol import Reply, Request
from node_agent.model.addresses import endpoint_mac, gateway, pod_mtu
from node_agent.model.bandwidth import Bandwidth
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Conflict, Invalid, MizarError, Permanent, Temporary
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
from node_agent.rows.endpoints import Port
from node_agent.store.base import Store

REMEMBERED = 1024  # endpoints that were removed: news of them may come late, but not that late
ABANDONED = 60.0  # seconds without a device; no ADD takes as long
AGAIN = 1.0  # seconds between two looks at the removals of which a step failed
LATE = 10.0
"""Seconds after which what this host has claimed is what it knows of: a request that an earlier agent sent, or one that
brought no answer, has been carried out or never will be."""


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
        beside: Beside,
    ) -> None:
        self._config, self._store, self._tables, self._kernel = config, store, tables, kernel
        self._log = log
        self._monotonic, self._sleep, self._beside = monotonic, sleep, beside
        self._turns = Turns()  # by the name of the veth
        self._trying = claims.Trying()
        self._sure_at = monotonic() + LATE
        self._devices = Devices()
        self._had: set[tuple[str, str]] = set()  # (name, uid) of the endpoints that were here at the last `sweep`
        self._removed: dict[str, None] = {}  # uids
        self._unfinished: dict[str, NetworkEndpoint] = {}  # by uid: removals of which a step failed, or is under way
        self._resume_at = monotonic()
        self._bare: dict[str, float] = {}  # by uid: since when `collect` has seen no device of it
        self._moves = Moves(config, store, tables, kernel, log, self._devices, monotonic=monotonic, sleep=sleep)

    def add(self, request: Request) -> Reply:
        """An interface in the request's namespace that can reach and be reached."""
        stages = Stages(self._monotonic)
        vpc, subnet, asked = parents(request, self._tables.world, self._store)
        netns = Path(request.netns)
        if not self._kernel.namespace_exists(netns):
            raise Invalid([f"netns: {request.netns} is no network namespace of a container"])
        with self._turns.alone(veth_name(request.container_id, request.interface)), self._expecting(vpc) as ready:
            stages.lap("parents")
            endpoint = self._claimed(request, vpc, subnet)
            stages.lap("claim")
            ready()
            stages.lap("table")
            device = self._device(endpoint, vpc, netns, request.bandwidth)
            if moving(endpoint, self._config.host):
                endpoint = self._moves.take_over(endpoint, vpc, subnet, device, asked)
            else:
                endpoint = self._attach(endpoint, vpc, subnet, device, asked, stages)
        self._log.info(
            "endpoint added",
            endpoint=endpoint.name,
            workload=endpoint.spec.workload,
            container=request.container_id,
            ms=stages.told(),
        )
        return _reply(endpoint, subnet, device)

    def delete(self, request: Request) -> Reply:
        """Nothing of the interface is left, here or in the store; absent is success."""
        veth = veth_name(request.container_id, request.interface)
        with self._turns.alone(veth):
            # What others than this process have claimed for it goes too, so that nothing ever stays behind.
            found = self._mine(request) if self._monotonic() >= self._sure_at else []
            for endpoint in found or claims.find(self._store, *self._claim(request)):
                self._remove(endpoint)
            with self._devices.changing():
                self._kernel.remove_endpoint(veth)
        return Reply()

    def check(self, request: Request) -> Reply:
        """The endpoint as ADD answered. Raises Permanent when it is not as ADD left it."""
        found = claims.find(self._store, self._config.host, request.container_id, request.interface)
        if not found:
            raise Permanent(f"check endpoint {request.container_id}/{request.interface}: there is none")
        endpoint = found[0]
        vpc, subnet = self._store.get(Vpc, endpoint.spec.vpc), self._store.get(Subnet, endpoint.spec.subnet)
        device = self._device(endpoint, vpc, Path(request.netns), request.bandwidth)
        problems = self._kernel.check_endpoint(device) if request.netns else []
        there, known = self._kernel.endpoint_links().get(device.veth), self._tables.world.links.get(endpoint.name)
        if not (there and known and there.ifindex == known.ifindex):
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
        if endpoint.meta.uid in self._removed:  # this is late news of it
            self._tables.gone(NetworkEndpoint.kind, endpoint.name, endpoint.meta.uid)
        elif endpoint.meta.deleting:
            self._finish(endpoint)

    def resume(self) -> list[str]:
        """Go on with the removals of which a step failed, now and then. Returns what failed again."""
        failed = list[str]()
        if self._monotonic() < self._resume_at:
            return failed
        self._resume_at = self._monotonic() + AGAIN
        for endpoint in list(self._unfinished.values()):
            with self._turns.alone(claims.veth(endpoint), wait=False) as mine:
                try:
                    if mine and endpoint.meta.uid in self._unfinished:
                        self._remove(endpoint)
                except MizarError as error:
                    failed.append(str(error))
        return failed

    def collect(self) -> list[str]:
        """Remove the endpoints of containers whose device went with its namespace a while ago: a runtime that was
        killed during ADD removes the namespace later, and sends no DEL. Returns their names. To be called now and then.

        An endpoint that no runtime asked for stays: whoever moves it here may take his time.
        """
        links, now, gone = self._kernel.endpoint_links(), self._monotonic(), list[str]()
        bare = {
            each.meta.uid: each
            for each in self._tables.own()
            if each.spec.network and stays(each, self._config.host) and claims.veth(each) not in links
        }
        self._bare = {uid: self._bare.get(uid, now) for uid in bare}
        for endpoint in (bare[uid] for uid, since in self._bare.items() if now - since >= ABANDONED):
            veth = claims.veth(endpoint)
            with self._turns.alone(veth, wait=False) as mine:
                # Nobody is at it now; it may have been an ADD that has just ended.
                if mine and endpoint in self._tables.own() and veth not in self._kernel.endpoint_links():
                    self._remove(endpoint)
                    gone.append(endpoint.name)
        return gone

    def sweep(self) -> list[str]:
        """As `adopt`, once an endpoint that was here is no concern of this host's any more, and not by what was done
        here: removed, or wanted elsewhere, before its time here was over. Nothing to do else."""
        own = {(endpoint.name, endpoint.meta.uid) for endpoint in self._tables.own()}
        done = self.adopt() if any(uid not in self._removed for _, uid in self._had - own) else []
        self._moves.keep(own)
        self._had = own  # not before: what failed is tried again
        return done

    def adopt(self) -> list[str]:
        """Bring the devices that are there together with the endpoints that were claimed for them, and remove those
        of no endpoint. Returns what had to be done, one sentence each."""
        if not (self._changed() or self._strays()):  # nobody who adds one has to wait for this look
            return []
        with self._devices.comparing():
            changed, strays = self._changed(), self._strays()
            for name, port in changed.items():
                self._tables.link(name, port)
            for veth in strays:
                self._kernel.remove_endpoint(veth)
        return _sentences(changed, strays)

    def differences(self) -> list[str]:
        """What `adopt` would change, one sentence each. Changes nothing."""
        if not (self._changed() or self._strays()):
            return []
        with self._devices.comparing():
            return _sentences(self._changed(), self._strays())

    # --- inside ---

    @contextlib.contextmanager
    def _expecting(self, vpc: Vpc) -> Iterator[Callable[[], object]]:
        """For the first endpoint of a VPC here, its flow table is made beside all else that the block does; what is
        yielded waits for it."""
        if vpc.status.vni in self._tables.world.slots:
            yield lambda: None
            return
        ready = self._beside(lambda: self._tables.expect(vpc))
        try:
            yield ready
        finally:
            with contextlib.suppress(MizarError):  # the block has heard of it, or has an error of its own
                ready()
            self._tables.expected(vpc)

    def _claimed(self, request: Request, vpc: Vpc, subnet: Subnet) -> NetworkEndpoint:
        """The claim an earlier ADD made, or a new one."""
        for found in self._earlier(request):
            same = (found.spec.vpc, found.spec.subnet) == (vpc.name, subnet.name)
            if found.meta.deleting or found.meta.uid in self._unfinished:
                self._remove(found)
            elif same and request.address in ("", found.spec.address):
                self._tables.put(vpc, subnet, found)
                return found
            else:
                raise Invalid(
                    [
                        f"container_id: {request.container_id} has {found.spec.address} in "
                        f"{found.spec.subnet} for {request.interface} already"
                    ]
                )
        spec = NetworkEndpointSpec(
            vpc=vpc.name,
            subnet=subnet.name,
            address=request.address,
            host=self._config.host,
            container_id=request.container_id,
            interface=request.interface,
            workload=request.workload,
            network=request.network,
        )
        known, vni = self._tables.world.endpoints, vpc.status.vni
        try:
            with claims.claimed(self._store, vni, subnet, spec, self._trying, known.__contains__) as endpoint:
                self._tables.put(vpc, subnet, endpoint)
            return endpoint
        except Temporary:  # no answer is none either way
            self._sure_at = self._monotonic() + LATE
            raise

    def _earlier(self, request: Request) -> list[NetworkEndpoint]:
        """What is claimed for this container and interface. The store is asked where others than this process may have
        claimed it: an earlier agent, and for what is no runtime's container whoever moves it here."""
        found = self._mine(request)
        if found or (request.network and self._monotonic() >= self._sure_at):
            return found
        return claims.find(self._store, *self._claim(request))

    def _mine(self, request: Request) -> list[NetworkEndpoint]:
        """The same, as far as this host knows."""
        wanted = self._claim(request)
        known = {e.meta.uid: e for e in (*self._tables.own(), *list(self._unfinished.values()))}
        found = (e for e in known.values() if (e.spec.host, e.spec.container_id, e.spec.interface) == wanted)
        return [endpoint for endpoint in found if endpoint.meta.uid not in self._removed]

    def _claim(self, request: Request) -> tuple[str, str, str]:
        """What the request's endpoint is found by."""
        return self._config.host, request.container_id, request.interface

    def _device(self, endpoint: NetworkEndpoint, vpc: Vpc, netns: Path, bandwidth: Bandwidth) -> Device:
        spec = endpoint.spec
        return Device(
            netns=netns,
            interface=spec.interface,
            veth=claims.veth(endpoint),
            address=spec.address,
            mac=endpoint_mac(vpc.status.vni, spec.address),
            mtu=pod_mtu(self._kernel.uplink_mtu()),
            bandwidth=bandwidth,
        )

    def _attach(
        self,
        endpoint: NetworkEndpoint,
        vpc: Vpc,
        subnet: Subnet,
        device: Device,
        asked: Mapping[str, str],
        stages: Stages,
    ) -> NetworkEndpoint:
        """Interface and rows of an endpoint that no other host has; returns when its bouncers in `asked` know it."""
        held = NetworkEndpointStatus(
            host=self._config.host, host_address=self._config.address, previous_host=endpoint.status.previous_host
        )
        name, uid = endpoint.name, endpoint.meta.uid
        # Nobody has heard of the address yet: bouncers may know it before it is here.
        written = self._beside(lambda: self._store.put_status(NetworkEndpoint, name, held, uid=uid))
        try:
            with self._devices.changing():
                port = self._kernel.make_endpoint(device)
                stages.lap("device")
                self._tables.put(vpc, subnet, endpoint)
                self._tables.link(name, port)
            stages.lap("rows")
        finally:
            endpoint = written()
        self._tables.put(endpoint)
        stages.lap("status")
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
        stages.lap("served")
        return endpoint

    def _finish(self, endpoint: NetworkEndpoint) -> None:
        """Complete a removal that somebody began in the store; later, when a request is at it: whoever looks after all
        endpoints waits for none."""
        with self._turns.alone(claims.veth(endpoint), wait=False) as mine:
            if mine and endpoint in self._tables.own():  # else the DEL that began it was quicker
                self._remove(endpoint)

    def _remove(self, endpoint: NetworkEndpoint) -> None:
        """Marked in the store first: bouncers forget it, a killed removal is found again. The address is freed last."""
        uid, vni = endpoint.meta.uid, int(endpoint.name.partition("-")[0])
        with contextlib.suppress(Conflict):  # the address is another's by now; ours is only what is here
            self._store.delete(NetworkEndpoint, endpoint.name, uid=uid)
        self._unfinished[uid] = endpoint
        with self._devices.changing():
            self._tables.link(endpoint.name, None)
            self._tables.gone(NetworkEndpoint.kind, endpoint.name)
            self._kernel.remove_endpoint(claims.veth(endpoint))
        self._tables.purge_flows(vni, endpoint.spec.address)
        if endpoint.status.host in ("", self._config.host):  # else it was on its way here, and another has it still
            self._store.drop_finalizer(NetworkEndpoint, endpoint.name, ENDPOINT_FINALIZER, uid=uid)
            self._removed[uid] = None
            for old in list(self._removed)[:-REMEMBERED]:
                self._removed.pop(old, None)
        self._unfinished.pop(uid, None)
        self._log.info("endpoint removed", endpoint=endpoint.name, workload=endpoint.spec.workload)

    def _changed(self) -> dict[str, Port | None]:
        """By name what is there (None: nothing), of the endpoints whose device is another than the rows say."""
        links, world = self._kernel.endpoint_links(), self._tables.world
        own = {e.name: links.get(claims.veth(e)) for e in self._tables.own()}
        return {name: own.get(name) for name in sorted({*own, *world.links}) if world.links.get(name) != own.get(name)}

    def _strays(self) -> list[str]:
        """Names of devices made for endpoints that are none of this host's, by the store's word too: an endpoint is
        there before its device is."""
        strays = self._kernel.endpoint_links().keys() - {claims.veth(e) for e in self._tables.own()}
        if strays:
            strays -= {claims.veth(e) for e in claims.of(self._store, self._config.host)}
        return sorted(strays)


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
