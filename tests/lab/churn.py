"""Pods that come and go on a cluster while parts of it die. Used by the short tests here and the long ones of
tests/soak."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from node_agent.bench import pods
from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.emulation import processes
from node_agent.emulation.cluster import control_plane, machines, node
from node_agent.kernel import cgroups, links, netns
from node_agent.model.errors import MizarError
from node_agent.store.kubernetes_access import from_kubeconfig
from node_agent.store.kubernetes_http import Api
from tests.lab import cluster, mizar
from tests.lab.cluster import Lab
from tests.waiting import until

PODS = "/api/v1/namespaces/default/pods"
AT_ONCE = 6  # pods that there are at a time, more or less
LIFE = 4.0  # seconds of a pod at most
# What dies: a part of a node, by its name here.
PARTS = ("agent", "plugin", "containerd", "kubelet")
FORGOTTEN = 240.0  # seconds in which a kubelet has collected what it lost sight of: it looks once a minute


class Churn:
    """Makes and removes pods until told to end. What the API server refuses, or cannot hear, is tried again later."""

    def __init__(self, lab: Lab, chance: random.Random) -> None:
        self._lab, self._chance = lab, chance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn")
        self.made = 0

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        netns.move(self._lab.places.netns_path(cluster.CONTROL))  # this thread's only; its connections stay there
        with contextlib.closing(Api(from_kubeconfig(self._lab.places.root / "admin.kubeconfig"), "churn")) as api:
            ends: dict[str, float] = {}
            while not self._stop.wait(0.05):
                with contextlib.suppress(MizarError):
                    if len(ends) < AT_ONCE:
                        where = self._chance.choice(list(self._lab.nodes))
                        name = f"churn-{self.made}"
                        self.made += 1
                        api.ask("make pod", "POST", PODS, body=mizar.pod(name, where))
                        ends[name] = time.monotonic() + self._chance.uniform(0.0, LIFE)
                    for name in [name for name, end in ends.items() if end < time.monotonic()]:
                        api.ask("delete pod", "DELETE", f"{PODS}/{name}")
                        del ends[name]


def kill_each(lab: Lab, chance: random.Random, times: int) -> None:
    """While pods come and go, each part of a node dies so many times, in any order; afterwards nothing is left."""
    killed = Counter[str]()
    with Churn(lab, chance) as pods_that_come_and_go:
        for part in chance.sample(PARTS * times, len(PARTS) * times):
            time.sleep(chance.uniform(0.0, 1.5))  # a moment of the churn like any other
            where = chance.choice(list(lab.nodes))
            if part == "plugin":  # it lives for a moment only
                until(lambda where=where: kill(lab, where, "plugin"), mizar.PATIENCE, "a plugin to kill", pause=0.001)  # type: ignore[misc]
                killed[part] += 1
            else:
                killed[part] += kill(lab, where, part)  # it may be dead already
    print(f"{pods_that_come_and_go.made} pods, killed: {dict(killed)}")
    assert pods_that_come_and_go.made > len(PARTS)
    assert all(killed[part] for part in PARTS), killed
    settle(lab)


def kill(lab: Lab, where: str, part: str) -> int:
    """SIGKILL to that part of the node; how many processes got it."""
    killed = 0
    for pid in pids(lab, where, part):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def pids(lab: Lab, where: str, part: str) -> list[int]:
    if part == "agent":
        seen = processes.inspect(lab.places.host(where).root, "agent")
        return [seen.pid] if seen and seen.pid else []
    if part == "plugin":
        return [pid for pid in cgroups.processes(machines.cgroup(lab.places, where)) if _program(pid) == "mizar"]
    found = node.inspect(lab.places, where)
    return [found.pids[part]] if found and found.pids[part] else []


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def whole(lab: Lab) -> list[str]:
    """What is not as it should be with the nodes' daemons and agents, one sentence each."""
    found = []
    for where in lab.nodes:
        seen = node.inspect(lab.places, where)
        found += [f"{where}: {problem}" for problem in (seen.problems if seen else ["no node"])]
        try:
            client.call(lab.places.host(where).socket, Request(verb="STATUS"), 10.0)
        except MizarError as error:
            found.append(f"{where}: {error}")
    return found


def complaints(lab: Lab) -> list[str]:
    """What agents say of the store."""
    return [problem for problem in whole(lab) if "cannot reach" in problem]


def left(lab: Lab) -> list[str]:
    """What is left of pods that are gone: addresses, interfaces, network namespaces, removals that wait."""
    found = [f"endpoint {item['metadata']['name']}" for item in lab.get("networkendpoints")["items"]]
    for where in lab.nodes:
        with links.opened(lab.places.netns_path(where)) as net:
            found += [f"{where}: {link.name}" for link in net.all() if len(link.name) == 14 and link.name[:2] == "mz"]
        folder = lab.places.host(where).socket.with_name("deleted")
        found += [f"{where}: {path}" for path in (folder.iterdir() if folder.exists() else ())]
        seen = node.inspect(lab.places, where)
        spaces = Path(f"/proc/{seen.machine}/root/run/netns") if seen else Path("/nowhere")
        found += [f"{where}: {path.name}" for path in (spaces.glob("cni-*") if spaces.exists() else ())]
    return found


def settle(lab: Lab) -> None:
    """Everything works again, then every pod goes and nothing of any is left."""
    until(lambda: not whole(lab), mizar.PATIENCE, lambda: whole(lab), pause=0.25)
    lab.kubectl("delete", "pods", "--all", f"--timeout={FORGOTTEN:g}s", timeout=FORGOTTEN + 10)
    until(lambda: not left(lab), FORGOTTEN, lambda: left(lab), pause=0.25)


def at_once(lab: Lab, number: int) -> str:
    """So many pods per node; fails when two share an address, or one stays behind."""
    store = f"kubernetes:{lab.places.root / 'admin.kubeconfig'}"
    return netns.call_in(
        lab.places.netns_path(cluster.CONTROL), lambda: pods.measure(store, list(lab.nodes), number, cluster.IMAGE)
    )


def packets_without_api_server(lab: Lab, chance: random.Random, seconds: float) -> None:
    """It is away for so long while pods would come and go: agents say so, no packet is lost, and all heals."""
    one, two = lab.nodes
    lab.apply(mizar.pod("anna", one), mizar.pod("bert", two))
    found = mizar.addresses(lab, "anna", "bert")
    here, there = mizar.space(lab, one, "anna"), mizar.space(lab, two, "bert")
    sent = lost = 0
    with Churn(lab, chance):
        with without_api_server(lab):
            every = len(lab.nodes)
            until(lambda: len(complaints(lab)) == every, mizar.PATIENCE, "the agents' word that the store is away")
            end = time.monotonic() + seconds
            while sent < 20 or time.monotonic() < end:
                sent += 1
                lost += not mizar.reaches(here, there, found["bert"])
            assert len(complaints(lab)) == every
        until(lambda: not complaints(lab), mizar.PATIENCE, "the agents' word that all is well")
    print(f"{sent} exchanges without the API server, {lost} lost")
    assert not lost
    assert mizar.reaches(here, there, found["bert"])
    settle(lab)


@contextlib.contextmanager
def without_api_server(lab: Lab) -> Iterator[None]:
    """The API server is away for the block; it runs again when this ends, and answers soon."""
    folder = control_plane.root(lab.places, cluster.CONTROL) / control_plane.SERVED
    processes.stop(folder, control_plane.SERVED)
    try:
        yield
    finally:
        control_plane.make(lab.places, lab.plane)
