"""`python -m node_agent.agent --config FILE`: one host's agent, in the network namespace it is started in.

Started by the host's supervisor. Exit code 0 after SIGTERM, 2 when the configuration or the host is wrong (one message
names every reason), 1 when something it needs is not there yet; the supervisor starts it again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path

from node_agent.agent.host import HostAgent
from node_agent.agent.kernel import HostKernel
from node_agent.agent.log import Log
from node_agent.agent.plugin import Plugin
from node_agent.agent.pods import KubernetesPods, NoPods, Pods
from node_agent.agent.server import Server
from node_agent.cni import conflist
from node_agent.cni.protocol import Request
from node_agent.cni.queue import Queue
from node_agent.datapath.maps import HostMaps
from node_agent.metrics import server as metrics
from node_agent.metrics.agent import AgentFigures
from node_agent.metrics.timings import Timings
from node_agent.model import config as configs
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, MizarError, Temporary
from node_agent.store.base import Store
from node_agent.store.open import api_of, open_store

RETRY = 0.5
SWITCH = 0.001
"""Seconds for which one thread may compute while others wait, who mostly have very little to do before they wait again
for the kernel or the store: Python's own 5 ms, met ten times, are a slow ADD."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m node_agent.agent", description="The agent of one host.")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="AgentConfig as JSON")
    path = parser.parse_args(arguments).config
    log = Log("", sys.stderr, time.time)
    try:
        config = configs.load_agent(path.read_text())
    except (OSError, Invalid) as error:
        log.error("cannot start", error=f"read {path}: {error}")
        return 2
    log = Log(config.host, sys.stderr, time.time)
    sys.setswitchinterval(SWITCH)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        return _serve(config, log, stop)
    except Invalid as error:
        log.error("cannot start", error=str(error))
        return 2
    except MizarError as error:
        log.error("cannot go on", error=str(error))
        return 1


def _serve(config: AgentConfig, log: Log, stop: threading.Event) -> int:
    store = _open(config.store, log, stop)
    if store is None:
        return 0
    maps = HostMaps(Path(config.pins) / "maps")
    agent = HostAgent(config, store, maps, HostKernel(config), log)
    agent.start()
    timings = Timings()
    plugin = Plugin(config.host, store, _pods(store), Queue.beside(Path(config.socket)), agent.handle, log)
    server = Server(Path(config.socket), timings.timed(plugin.handle), log)
    server.start()
    for task in (plugin.look_after, lambda stop: _install(config, agent, log, stop)):
        threading.Thread(target=task, args=(stop,), name="cni", daemon=True).start()
    figures = AgentFigures(config.host, store, Path(config.pins) / "maps", maps, timings)
    told = metrics.Server(Path(config.socket).with_name(metrics.SOCKET), figures, log.warning)
    told.start()
    agent.run(stop)
    log.info("stopped")
    told.close()
    server.close()
    agent.close()
    return 0


def _pods(store: Store) -> Pods:
    """Who knows the pods of this host: the cluster whose store it is, or nobody."""
    api = api_of(store)
    return KubernetesPods(api) if api else NoPods()


def _install(config: AgentConfig, agent: HostAgent, log: Log, stop: threading.Event) -> None:
    """Once the agent serves, container runtimes are told that there is a network here."""
    said = ""
    while config.cni.conflist and not stop.wait(RETRY if said else 0):
        status = agent.handle(Request(verb="STATUS"))
        try:
            if status.code:
                raise Temporary(status.message)
            for path in conflist.install(config.cni, config.socket):
                log.info("installed for container runtimes", path=path)
            return
        except MizarError as error:
            if str(error) != said:
                said = str(error)
                log.warning("container runtimes wait", error=said)


def _open(url: str, log: Log, stop: threading.Event) -> Store | None:
    """The store, as soon as it is there; None when told to stop first."""
    said = ""
    while not stop.is_set():
        try:
            return open_store(url, create=False)
        except Temporary as error:
            if str(error) != said:
                said = str(error)
                log.warning("waiting for the store", error=said)
        stop.wait(RETRY)
    return None


if __name__ == "__main__":
    sys.exit(main())
