"""Endpoints that change hosts: namespace, processes, sockets and address stay, the veth is swapped.

The host that takes over does the work, at its ADD: its own veth beside the old one; then both hosts may ask in the
endpoint's name, and the bouncers have said so; what the endpoint sends changes over; the bouncers are told where it
lives. All that time the old host delivers as before. Then it removes its veth, and says for MOVED_FOR seconds where the
endpoint went. Every step may be killed and repeated. Called by `endpoints`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from node_agent.agent import acknowledge, claims
from node_agent.agent.devices import Devices
from node_agent.agent.kernel import Device, Kernel
from node_agent.agent.log import Log
from node_agent.agent.tables import Tables
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Conflict, NotFound
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointStatus, Subnet, Vpc
from node_agent.store.base import Store

LINGER = 0.2  # seconds: what was on its way through the old veth has passed
MOVED_FOR = 60.0  # seconds; longer than entries are believed, so that whoever still sends here asks in that time


def moving(endpoint: NetworkEndpoint, host: str) -> bool:
    """Whether this host, which wants the endpoint, has to take it over from another one. Pure."""
    return endpoint.status.host not in ("", host) or endpoint.status.next_host not in ("", host)


class Moves:
    """Of one host."""

    def __init__(
        self,
        config: AgentConfig,
        store: Store,
        tables: Tables,
        kernel: Kernel,
        log: Log,
        devices: Devices,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._config, self._store, self._tables, self._kernel, self._log = config, store, tables, kernel, log
        self._devices, self._monotonic, self._sleep = devices, monotonic, sleep
        self._left: dict[tuple[str, str], float] = {}  # (name, uid) -> when it was first seen to be elsewhere

    def take_over(
        self, endpoint: NetworkEndpoint, vpc: Vpc, subnet: Subnet, device: Device, asked: Mapping[str, str]
    ) -> NetworkEndpoint:
        """The endpoint, held by this host from now on. Raises Temporary when no bouncer in `asked` answers; then the
        old host still holds it."""
        was, host = endpoint.status, self._config.host
        with self._devices.changing():
            port = self._kernel.bring_endpoint(device)
            self._tables.put(vpc, subnet, endpoint)
            self._tables.link(endpoint.name, port)
        if was.host != host:  # else it was on its way to another host, and comes back
            self._say(endpoint, replace(was, next_host=host, next_address=self._config.address), vpc, asked)
        self._kernel.switch_endpoint(device)
        held = NetworkEndpointStatus(
            host=host,
            host_address=self._config.address,
            previous_host=was.host if was.host != host else was.next_host,
        )
        moved = self._say(endpoint, held, vpc, asked)
        self._log.info("endpoint taken over", endpoint=endpoint.name, source=held.previous_host)
        return moved

    def leave(self, endpoint: NetworkEndpoint) -> None:
        """The endpoint lives elsewhere: let go of what is left of it here, each thing at its time. Repeat it."""
        key, now = (endpoint.name, endpoint.meta.uid), self._monotonic()
        since = self._left.setdefault(key, now)
        if endpoint.name in self._tables.world.links and now - since >= LINGER:
            with self._devices.changing():
                self._tables.link(endpoint.name, None)
                self._kernel.remove_endpoint(claims.veth(endpoint))
            self._log.info("endpoint moved away", endpoint=endpoint.name, target=endpoint.status.host)
        if now - since >= MOVED_FOR:
            # Another version: it moved on, or is gone; the store will say.
            with contextlib.suppress(Conflict, NotFound):
                self._store.put_status(
                    NetworkEndpoint,
                    endpoint.name,
                    replace(endpoint.status, previous_host=""),
                    uid=endpoint.meta.uid,
                    resource_version=endpoint.meta.resource_version,
                )
                del self._left[key]

    def stay(self, endpoint: NetworkEndpoint) -> None:
        """The endpoint lives here; when it leaves the next time, its time begins anew."""
        self._left.pop((endpoint.name, endpoint.meta.uid), None)

    def keep(self, own: Collection[tuple[str, str]]) -> None:
        """Remember nothing of other endpoints than these (name, uid)."""
        self._left = {key: since for key, since in self._left.items() if key in own}

    def _say(
        self, endpoint: NetworkEndpoint, status: NetworkEndpointStatus, vpc: Vpc, asked: Mapping[str, str]
    ) -> NetworkEndpoint:
        """Write the status; returns when the bouncers act by it."""
        said = self._store.put_status(NetworkEndpoint, endpoint.name, status, uid=endpoint.meta.uid)
        self._tables.put(said)
        served = acknowledge.wait_served(
            said,
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
                "move not known to every bouncer yet", endpoint=said.name, missing=sorted(asked.keys() - served)
            )
        return said
