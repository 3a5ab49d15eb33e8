"""What may happen to a stack behind its back: programs taken away, agents that lie, a data plane that lost a step.

Used by the tests of the health gate.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from infra.providers import objects
from node_agent.cli import metrics
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply
from node_agent.datapath import programs
from node_agent.emulation import fabric, hosts, processes
from node_agent.kernel import filters, links, netns
from node_agent.kernel.links import Links
from node_agent.model.errors import Temporary
from node_agent.model.objects import NetworkHost
from tests.e2e.stack import Stack
from tests.engine.engine_env import ROOT

# The one place where a verdict becomes an entry; without it every packet of a flow asks anew, and passes.
INSTALLATION = "if (!flow_insert(p, &p->key, &new))\n\t\tcount(COUNTER_ENTRIES_ASKED);"


def detach(stack: Stack, host: str) -> None:
    """Take every program of the host off its hooks."""
    (stack.places.host(host).links / "uplink").unlink(missing_ok=True)
    with links.opened(stack.namespace(host)) as net:
        for device in _devices(net):
            filters.detach(net, device, "ingress")


@contextlib.contextmanager
def kept_detached(stack: Stack, host: str) -> Iterator[None]:
    """As `detach`, and again whenever the agent has put its programs back, as it does every 10 s by itself."""
    stop = threading.Event()

    def persist() -> None:
        while not stop.wait(0.05):
            if attached(stack, host):
                detach(stack, host)

    detach(stack, host)
    thread = threading.Thread(target=persist)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def hooks(stack: Stack, host: str) -> dict[str, bool]:
    """Whether there is a program on each hook of the host: on "XDP" of the uplink, and on TC of each device."""
    with links.opened(stack.namespace(host)) as net:
        found = {device: filters.attached(net, device, "ingress") is not None for device in _devices(net)}
        index = net.need(hosts.UPLINK).index
    with netns.enter(stack.namespace(host)):
        found["XDP"] = programs.xdp_state(index) is not None
    return found


def attached(stack: Stack, host: str) -> bool:
    """Whether every hook of the host has a program."""
    return all(hooks(stack, host).values())


def isolate(stack: Stack, *apart: str, on: bool) -> None:
    """The fabric lets no frame pass between these hosts, or does again."""
    with netns.enter(stack.namespace(fabric.NAME)):
        for host in apart:
            argv = ["bridge", "link", "set", "dev", hosts.port_name(host), "isolated", "on" if on else "off"]
            subprocess.run(argv, check=True)


def without_verdicts(folder: Path) -> Path:
    """The compiled programs of a data plane that installs no entry from a verdict."""
    shutil.copytree(ROOT / "bpf", folder, ignore=shutil.ignore_patterns("build"))
    step = folder / "include" / "verdict.h"
    text = step.read_text()
    assert text.count(INSTALLATION) == 1
    step.write_text(text.replace(INSTALLATION, ";"))
    subprocess.run(["make", "-s", "-C", str(folder)], check=True)
    return folder / "build"


@contextlib.contextmanager
def lying_agent(stack: Stack, host: str) -> Iterator[list[str]]:
    """The host's agent does nothing any more, and something in its place answers that all is well; yields the verbs
    that it is asked. Its heart goes on beating, so that nobody acts on the silence."""
    agent = processes.inspect(stack.places.host(host).root, "agent")
    assert agent and agent.pid
    path = stack.places.host(host).socket
    aside, asked = path.with_name("aside.sock"), list[str]()
    with contextlib.ExitStack() as undo:
        os.kill(agent.pid, signal.SIGSTOP)
        undo.callback(os.kill, agent.pid, signal.SIGCONT)
        stop = threading.Event()
        heart = threading.Thread(target=_beat, args=(stack, host, stop))
        heart.start()
        undo.callback(heart.join)
        undo.callback(stop.set)
        path.rename(aside)
        undo.callback(aside.replace, path)
        listener = undo.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_praise, args=(listener, asked))
        thread.start()
        undo.callback(thread.join)
        undo.callback(listener.shutdown, socket.SHUT_RDWR)
        yield asked


def requests(stack: Stack, host: str, verb: str) -> float:
    """How many requests of this kind the host's agent has answered."""
    found = metrics.samples(metrics.fetch(stack.places, host))
    counts = (one for one in found if one["name"] == "mizar_request_seconds_count" and one["labels"]["verb"] == verb)
    return sum(float(one["value"]) for one in counts)


def _beat(stack: Stack, host: str, stop: threading.Event) -> None:
    """The host's heartbeat goes on without its agent."""
    with objects.opened(stack.places.id) as store:
        while not stop.wait(1.0):
            status = store.get(NetworkHost, host).status
            with contextlib.suppress(Temporary):
                store.put_status(NetworkHost, host, replace(status, heartbeat=status.heartbeat + 1))


def _praise(listener: socket.socket, asked: list[str]) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                asked.append(protocol.decode_request(client.makefile("rb").readline()).verb)
                client.sendall(protocol.encode(Reply()))


def _devices(net: Links) -> list[str]:
    """The host's uplink and its sides of endpoints' veths."""
    return [link.name for link in net.all() if link.kind == "veth"]
