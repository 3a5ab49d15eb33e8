"""What watches cost an API server, by the way in which they select: docs/adr/0007-watches.md has the figures.

    python -m node_agent.bench.watchers --kubeconfig FILE [--watchers N] [--objects N] [--writes N] [--ways ...]

Makes two custom resource definitions of its own with that many objects each, opens that many watches in one of four
ways, writes objects one after the other, and reads the server's CPU seconds and memory from its own metrics. Removes
what it made. An otherwise idle API server is yours to provide.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import selectors
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from node_agent.bench import machine
from node_agent.model.codec import Plain
from node_agent.model.errors import MizarError, NotFound
from node_agent.store.kubernetes_access import Access, from_kubeconfig
from node_agent.store.kubernetes_http import Api

GROUP = "bench.mizar.com"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WAYS = ("none", "field", "label", "namespace")
SETTLE = 3.0  # seconds for the server's caches, and for garbage of what was before


@dataclass(frozen=True)
class Figures:
    """Of one way. CPU in ms of the API server: of a watcher's list, of opening its watch, of a write that all watches
    are compared with. `memory`: KiB per watch. `received`: events per write. `latency`: ms from a write's request to
    the event at the watcher that wants it, median and 99th percentile."""

    way: str
    list_cpu: float
    open_cpu: float
    memory: float
    write_cpu: float
    received: float
    latency: tuple[float, float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m node_agent.bench.watchers", description=__doc__.split("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, required=True, metavar="FILE", help="of an administrator")
    parser.add_argument("--watchers", type=int, default=1000, metavar="N", help="(default 1000)")
    parser.add_argument("--objects", type=int, default=2000, metavar="N", help="that exist before (default 2000)")
    parser.add_argument("--writes", type=int, default=300, metavar="N", help="(default 300)")
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=WAYS,
        help="(default: all; memory means something for the first way on a fresh server only)",
    )
    options = parser.parse_args(arguments)
    try:
        access = from_kubeconfig(options.kubeconfig)
        with _opened(access) as api, _definitions(api):
            _fill(api, options.objects, options.watchers)
            base = _write_cpu(api, options.writes)
            print(_facts(options, base))
            for way in options.ways:
                print(_row(_measure(api, access, way, options.watchers, options.writes, base)), flush=True)
    except (MizarError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _facts(options: argparse.Namespace, base: float) -> str:
    here = machine.describe()
    heads = ("way", "list CPU ms", "open CPU ms", "KiB each", "write CPU ms", "events", "p50 ms", "p99 ms")
    return "\n".join(
        [
            f"{here.processor}, {here.cpus} CPUs, Linux {here.kernel}; {options.watchers} watchers, "
            f"{options.objects} objects, {options.writes} writes; a write without watchers: {base:.2f} ms CPU",
            f"{heads[0]:<10}" + "".join(f"{head:>14}" for head in heads[1:]),
        ]
    )


def _row(figures: Figures) -> str:
    numbers = (
        figures.list_cpu,
        figures.open_cpu,
        figures.memory,
        figures.write_cpu,
        figures.received,
        *figures.latency,
    )
    return f"{figures.way:<10}" + "".join(f"{number:>14.2f}" for number in numbers)


def _measure(api: Api, access: Access, way: str, watchers: int, writes: int, base: float) -> Figures:
    before = _cpu(api)
    listed = min(watchers, 200)
    for number in range(listed):
        api.ask("list", "GET", _collection(way, number), _query(way, number))
    list_cpu = (_cpu(api) - before) / listed * 1e3
    revision = api.ask("list", "GET", _collection("none", 0), {"limit": "1"})["metadata"]["resourceVersion"]
    time.sleep(SETTLE)
    memory, before = _memory(api), _cpu(api)
    with Crowd(access, [_watch_url(way, number, revision) for number in range(watchers)]) as crowd:
        open_cpu = (_cpu(api) - before) / watchers * 1e3
        time.sleep(SETTLE)
        memory = (_memory(api) - memory) / watchers / 1024
        crowd.drain()
        before, latencies, seen = _cpu(api), [], crowd.events
        for turn in range(writes):
            number = turn * 7 % watchers
            begun = time.perf_counter()
            _write(api, way, number, turn)
            crowd.until(number)
            latencies.append((time.perf_counter() - begun) * 1e3)
        time.sleep(SETTLE)
        crowd.drain()
        write_cpu = (_cpu(api) - before) / writes * 1e3 - base
        received = (crowd.events - seen) / writes
    p99 = statistics.quantiles(latencies, n=100)[98]
    return Figures(way, list_cpu, open_cpu, memory, write_cpu, received, (statistics.median(latencies), p99))


# --- the crowd: many streams in one thread, which only counts ---


class Crowd:
    """Watches at these URLs. `events`: how many came to all of them."""

    def __init__(self, access: Access, urls: Sequence[str]) -> None:
        self._access, self._urls = access, urls
        self._sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._counts: list[int] = []
        self.events = 0

    def __enter__(self) -> Crowd:
        try:
            for number, url in enumerate(self._urls):
                made = self._open(url)
                self._sockets.append(made)
                self._selector.register(made, selectors.EVENT_READ, number)
                self._counts.append(0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for each in self._sockets:
            each.close()

    def drain(self) -> None:
        """Take in what has come."""
        while ready := self._selector.select(0.05):
            for key, _ in ready:
                self._take(key.data)

    def until(self, number: int) -> None:
        """An event came to this watcher. Raises TimeoutError."""
        wanted, deadline = self._counts[number] + 1, time.monotonic() + 20
        while self._counts[number] < wanted:
            # First the one that is waited for: the others' reading is no part of its latency.
            self._take(number)
            if self._counts[number] < wanted:
                self._selector.select(0.001)
            if time.monotonic() > deadline:
                raise TimeoutError(f"no event came to watcher {number}")

    def _open(self, url: str) -> socket.socket:
        server = urlsplit(self._access.server)
        host = server.hostname or ""
        plain = socket.create_connection((host, server.port or 443), 10)
        wrapped = self._access.tls.wrap_socket(plain, server_hostname=host) if self._access.tls else plain
        token = self._access.token()
        lines = [f"GET {url} HTTP/1.1", f"Host: {host}", "Accept: application/json"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        wrapped.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = wrapped.recv(1 << 16)
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise OSError(f"open watch {url}: {answer[:300]!r}")
        wrapped.setblocking(False)
        return wrapped

    def _take(self, number: int) -> None:
        try:
            while data := self._sockets[number].recv(1 << 16):
                found = len(re.findall(rb'\{"type":"(?:ADDED|MODIFIED|DELETED)"', data))
                self._counts[number] += found
                self.events += found
        except (ssl.SSLWantReadError, BlockingIOError):
            return


# --- objects of our own ---


def _kind(way: str) -> str:
    return "parcels" if way == "namespace" else "letters"


def _collection(way: str, number: int) -> str:
    inside = f"/namespaces/host-{number}" if way == "namespace" else ""
    return f"/apis/{GROUP}/v1{inside}/{_kind(way)}"


def _query(way: str, number: int) -> dict[str, str]:
    selector = {"field": ("fieldSelector", "spec.host"), "label": ("labelSelector", "host")}.get(way)
    return {selector[0]: f"{selector[1]}=host-{number}"} if selector else {}


def _watch_url(way: str, number: int, revision: str) -> str:
    query = {"watch": "1", "resourceVersion": revision, "timeoutSeconds": "900", **_query(way, number)}
    return _collection(way, number) + "?" + "&".join(f"{key}={quote(value)}" for key, value in query.items())


def _object(way: str, number: int, serial: int) -> Plain:
    host = f"host-{number}"
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": _kind(way).capitalize()[:-1],
        "metadata": {"name": f"{serial}-{host}", "labels": {"host": host}},
        "spec": {
            "host": host,
            "subnet": f"subnet-{serial % 50}",
            "address": f"10.0.{serial // 250 % 250}.{serial % 250}",
        },
    }


def _write(api: Api, way: str, number: int, serial: int) -> None:
    """One object that was not there before."""
    made = _object(way, number, (WAYS.index(way) + 1) * 1_000_000 + serial)
    api.ask("write", "POST", _collection(way, number), body=made)


def _fill(api: Api, objects: int, hosts: int) -> None:
    for number in range(hosts):
        with contextlib.suppress(MizarError):  # there already
            api.ask("make", "POST", "/api/v1/namespaces", body={"metadata": {"name": f"host-{number}"}})
    for serial in range(objects):
        for way in ("field", "namespace"):
            api.ask("fill", "POST", _collection(way, serial % hosts), body=_object(way, serial % hosts, serial))


def _write_cpu(api: Api, writes: int) -> float:
    time.sleep(SETTLE)
    before = _cpu(api)
    for turn in range(writes):
        _write(api, "field", turn, 500_000 + turn)
    time.sleep(SETTLE)
    return (_cpu(api) - before) / writes * 1e3


@contextlib.contextmanager
def _definitions(api: Api) -> Iterator[None]:
    fields: Plain = {name: {"type": "string"} for name in ("host", "subnet", "address")}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    made = []
    try:
        for plural, scope in (("letters", "Cluster"), ("parcels", "Namespaced")):
            version = {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": schema},
                "selectableFields": [{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.subnet"}],
            }
            names = {"plural": plural, "kind": plural.capitalize()[:-1]}
            spec = {"group": GROUP, "scope": scope, "names": names, "versions": [version]}
            made.append(f"{plural}.{GROUP}")
            body = {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": made[-1]},
                "spec": spec,
            }
            api.ask("define", "POST", CRDS, body=body)
            _served(api, f"/apis/{GROUP}/v1/{plural}")
        yield
    finally:
        for name in made:
            with contextlib.suppress(NotFound):
                api.ask("remove", "DELETE", f"{CRDS}/{name}")


def _served(api: Api, path: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            api.ask("list", "GET", path)
            return
        except MizarError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


# --- the server's own figures ---


@contextlib.contextmanager
def _opened(access: Access) -> Iterator[Api]:
    api = Api(access, "mizar-bench")
    try:
        yield api
    finally:
        api.close()


def _metric(api: Api, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", api.text("read metrics", "/metrics"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _cpu(api: Api) -> float:
    return _metric(api, "process_cpu_seconds_total")


def _memory(api: Api) -> float:
    return _metric(api, "process_resident_memory_bytes")


if __name__ == "__main__":
    sys.exit(main())
