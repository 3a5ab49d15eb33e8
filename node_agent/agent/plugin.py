"""Answers container runtimes: what they say as CNI becomes requests that `host` answers, its replies become results.

Requests of the Pulumi program pass through. `__main__` puts it between the endpoint socket and the agent, and lets it
look after the removals that were asked for while no agent was there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from node_agent.agent.beside import Beside, threaded
from node_agent.agent.log import Log
from node_agent.agent.pods import Pods, choose
from node_agent.agent.refusals import refusal
from node_agent.agent.stages import Stages
from node_agent.cni import protocol, spec
from node_agent.cni.protocol import Reply, Request
from node_agent.cni.queue import Queue
from node_agent.model.errors import Invalid, MizarError, Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import veth_name
from node_agent.model.wishes import Wish
from node_agent.store.base import Store

LOOK_EVERY = 1.0  # seconds between two looks at the removals that wait


class Plugin:
    """Of one host. Any thread may call. `under`: answers requests that are no CNI."""

    def __init__(
        self,
        host: str,
        store: Store,
        pods: Pods,
        queue: Queue,
        under: Callable[[Request], Reply],
        log: Log,
        monotonic: Callable[[], float] = time.monotonic,
        beside: Beside = threaded,
    ) -> None:
        self._host, self._store, self._pods, self._queue = host, store, pods, queue
        self._under, self._log, self._monotonic, self._beside = under, log, monotonic, beside
        self._settling = threading.Lock()

    def handle(self, request: Request) -> Reply:
        """Answer one request; errors become the protocol's codes."""
        if not request.config:
            return self._under(request)
        try:
            return self._answer(request, spec.network(request.config))
        except MizarError as error:
            return self._refused(request, error)

    def look_after(self, stop: threading.Event, every: float = LOOK_EVERY) -> None:
        """Do the removals that wait, now and whenever there are some, until `stop` is set."""
        said = ""
        while True:
            found = self.settle()
            if found and found != said:
                self._log.warning("removals wait", error=found)
            said = found
            if stop.wait(every):
                return

    def settle(self) -> str:
        """One look at the removals that wait; why the first that could not be done has to wait longer, or ""."""
        problem = ""
        try:
            for path in self._queue.waiting():
                with self._settling:
                    reply = self._settle(path)
                problem = problem or reply.message
                if reply.code == protocol.TRY_AGAIN:  # so would the rest
                    break
        except MizarError as error:
            return str(error)
        return problem

    # --- inside ---

    def _answer(self, request: Request, network: spec.Network) -> Reply:
        match request.verb:
            case "ADD":
                self._settle_before(request)
                return self._add(request, network)
            case "CHECK":
                return self._check(request, network)
            case "STATUS":
                reply = self._under(_plain(request))
                # To a runtime, an agent that is about to serve is one that does not.
                return replace(reply, code=protocol.NOT_AVAILABLE) if reply.code == protocol.TRY_AGAIN else reply
            case "GC":
                return self._collect(network)
            case _:
                return self._under(_plain(request))

    def _add(self, request: Request, network: spec.Network) -> Reply:
        stages = Stages(self._monotonic, since=self._began(request))
        stages.lap("arrive")
        if not request.netns:
            raise Invalid(["netns: the network namespace did not come with the request"])
        arguments = spec.arguments(request.args)
        namespace, name = arguments.get("K8S_POD_NAMESPACE", ""), arguments.get("K8S_POD_NAME", "")
        wanted = replace(
            _plain(request), workload=f"{namespace}/{name}" if name else request.container_id, network=network.name
        ).within(network.bandwidth)
        if not (namespace and name):
            return self._placed(request, network, wanted, (), stages)

        def ask() -> Sequence[Wish]:
            return self._pods.wishes(namespace, name, arguments.get("K8S_POD_UID", ""), network.annotations)

        likely = self._pods.likely(namespace, name, network.annotations)
        if likely is None:
            return self._placed(request, network, wanted, ask(), stages)
        # What was true a moment ago mostly still is: the endpoint is made by it while the question is under way, and
        # nobody hears of it before the answer is there.
        asked = self._beside(ask)
        reply = self._placed(request, network, wanted, likely, stages)
        try:
            wishes = asked()
        except MizarError:
            self._under(replace(_plain(request), verb="DEL"))
            raise
        if wishes == likely:
            return reply
        self._under(replace(_plain(request), verb="DEL"))
        return self._placed(request, network, wanted, wishes, Stages(self._monotonic))

    def _placed(
        self, request: Request, network: spec.Network, wanted: Request, wishes: Sequence[Wish], stages: Stages
    ) -> Reply:
        """The endpoint where these want it; a refusal says whose wish it was."""
        default = Wish(whose=f"default of network {network.name}", vpc=network.vpc, subnet=network.subnet)
        try:
            chosen = choose([*wishes, default], self._store)
        except MizarError as error:
            return self._refused(request, error)
        if mistakes := _no_host_ports(network, chosen):
            return self._refused(request, Invalid(mistakes))
        stages.lap("who")
        reply = self._under(replace(wanted, vpc=chosen.vpc, subnet=chosen.subnet))
        if reply.code:
            return replace(reply, message=f"{chosen.whose}: {reply.message}")
        stages.lap("endpoint")
        self._log.info(
            "container added",
            endpoint=reply.endpoint,
            container=request.container_id,
            whose=chosen.whose,
            ms=stages.told(),
        )
        veth = veth_name(request.container_id, request.interface)
        return replace(reply, result=spec.result(network, reply, request.interface, request.sandbox, veth))

    def _refused(self, request: Request, error: MizarError) -> Reply:
        reply = refusal(error)
        self._log.warning("request refused", verb=request.verb, container=request.container_id, error=reply.message)
        return reply

    def _began(self, request: Request) -> float | None:
        """When the plugin did, on our clock; None when it did not say."""
        return int(request.began) / 1e9 if request.began.isdecimal() else None

    def _check(self, request: Request, network: spec.Network) -> Reply:
        reply = self._under(_plain(request).within(network.bandwidth))
        if not reply.code:
            differences = spec.differences(network, reply, request.interface, request.sandbox)
            if differences:
                raise Permanent(f"check endpoint {reply.endpoint}: " + "; ".join(differences))
        return reply

    def _collect(self, network: spec.Network) -> Reply:
        """Removes what this host's runtimes made in the network and do not count as valid any more."""
        if network.valid is None:  # then nothing says what may go
            return Reply()
        problems = []
        for endpoint in self._store.list(NetworkEndpoint, {"spec.host": self._host}):
            own = endpoint.spec
            if own.network != network.name or (own.container_id, own.interface) in network.valid:
                continue
            reply = self._under(Request(verb="DEL", container_id=own.container_id, interface=own.interface))
            if reply.code:
                problems.append(reply)
            else:
                self._log.info("endpoint collected", endpoint=endpoint.name, workload=own.workload)
        return replace(problems[0], message="; ".join(each.message for each in problems)) if problems else Reply()

    def _settle_before(self, request: Request) -> None:
        """A removal of this very attachment that waits is older than the request. Raises Temporary while it fails."""
        path = self._queue.entry(request.container_id, request.interface)
        with self._settling:
            if (reply := self._settle(path)).code:
                raise Temporary(f"add endpoint {request.container_id}/{request.interface}: {reply.message}")

    def _settle(self, path: Path) -> Reply:
        """Do the removal in the file, and forget it if that went well."""
        removal = self._queue.read(path)
        if removal is None:
            return Reply()
        reply = self._under(removal)
        if not reply.code:
            self._queue.forget(path)
            self._log.info("late removal done", container=removal.container_id, interface=removal.interface)
        return reply


def _no_host_ports(network: spec.Network, chosen: Wish) -> list[str]:
    """Why the container cannot have the ports of its host that it asks for."""
    mistakes = []
    if network.ports and chosen.vpc != network.host_vpc:
        # By the host's routes `portmap` would send the packets to another VPC's pod of that address, or to nobody.
        hosts = f"in VPC {network.host_vpc!r} only" if network.host_vpc else "in no VPC"
        ports = ", ".join(map(str, sorted({*network.ports})))
        mistakes.append(f"hostPort: {ports}: not for a pod of VPC {chosen.vpc!r}, as the hosts are {hosts}")
    # `portmap` takes packets before the host does: whoever had such a port would be the API server, or a kubelet.
    mistakes += [f"hostPort: {port}: hosts need it themselves" for port in sorted(network.reserved & {*network.ports})]
    return mistakes


def _plain(request: Request) -> Request:
    """The request as one of ours."""
    return replace(request, config="", args="", sandbox="", began="")
