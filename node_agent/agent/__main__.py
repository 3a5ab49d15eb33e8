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
from node_agent.agent.server import Server
from node_agent.datapath.maps import HostMaps
from node_agent.metrics import server as metrics
from node_agent.metrics.agent import AgentFigures
from node_agent.metrics.timings import Timings
from node_agent.model import config as configs
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, MizarError, Temporary
from node_agent.store.base import Store
from node_agent.store.open import open_store

RETRY = 0.5


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
    server = Server(Path(config.socket), timings.timed(agent.handle), log)
    server.start()
    figures = AgentFigures(config.host, store, Path(config.pins) / "maps", maps, timings)
    told = metrics.Server(Path(config.socket).with_name(metrics.SOCKET), figures, log.warning)
    told.start()
    agent.run(stop)
    log.info("stopped")
    told.close()
    server.close()
    agent.close()
    return 0


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
