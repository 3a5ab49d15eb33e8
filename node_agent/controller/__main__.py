"""`python -m node_agent.controller --config FILE`: the controller of one stack, run by a supervisor.

FILE is a ControllerConfig (model.config) as JSON. Log lines go to stderr. Ends with 0 on SIGTERM or SIGINT, with 1
when the config or the store is of no use; a store that is absent, locked or full is waited for.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from node_agent.controller.log import Log
from node_agent.controller.loop import Controller
from node_agent.controller.nodes import HostKeeper
from node_agent.controller.rebalance import Rebalancer
from node_agent.controller.service_keeper import ServiceKeeper
from node_agent.metrics import server as metrics
from node_agent.metrics.controller import ControllerFigures, Turns
from node_agent.model.config import ControllerConfig, load_controller
from node_agent.model.errors import Invalid, Permanent, Temporary
from node_agent.store.base import Store
from node_agent.store.kubernetes_http import Api
from node_agent.store.kubernetes_nodes import Nodes
from node_agent.store.kubernetes_services import Services
from node_agent.store.open import open_api, open_store


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m node_agent.controller", description="The controller of one stack.")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="ControllerConfig as JSON")
    path: Path = parser.parse_args(arguments).config
    log, stop = Log(sys.stderr), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        config = load_controller(path.read_text())
        log.say("started", stack=config.stack_id, store=config.store)
        store = _open(config, log, stop)
        if store is not None:
            _run(config, store, log, stop, path.with_name(metrics.SOCKET))
    except OSError as error:
        log.say("failed", "error", cause=f"read config {path}: {error.strerror}")
        return 1
    except Permanent as error:
        log.say("failed", "error", cause=str(error))
        return 1
    log.say("stopped")
    return 0


def _open(config: ControllerConfig, log: Log, stop: threading.Event) -> Store | None:
    """The store, once it is there; None when told to stop before. It is never made here: a controller that outlived
    a destroy would bring back what was removed."""
    while not stop.is_set():
        try:
            store = open_store(config.store, create=False)
        except Temporary as error:
            log.trouble(str(error))
            stop.wait(error.delay)
        else:
            log.fine()
            return store
    return None


def _run(config: ControllerConfig, store: Store, log: Log, stop: threading.Event, socket: Path) -> None:
    """`socket`: where the figures are asked for."""
    clock = _clock()
    controller = Controller(config, store, clock, log)
    rebalancer = Rebalancer(config, store, clock, log, controller.write)
    keepers = _keepers(config, store, clock, log)

    def stopped() -> bool:
        rebalancer.turn()  # between two turns of the loop: one writer at a time
        for keeper in keepers:
            keeper.turn()
        return stop.is_set()

    turns = Turns(stopped)
    told = metrics.Server(socket, ControllerFigures(store, turns), lambda what: log.say(what, "warning"))
    told.start()
    try:
        controller.run(turns, stop.wait)
    finally:
        told.close()
        rebalancer.close()
        for keeper in keepers:
            keeper.close()
        controller.close()
        store.close()


def _keepers(
    config: ControllerConfig, store: Store, clock: Callable[[], float], log: Log
) -> Sequence[HostKeeper | ServiceKeeper]:
    """Of a cluster whose nodes are the hosts; elsewhere somebody else makes hosts and services. Raises Invalid."""
    if not config.cluster:
        return ()
    nodes, services = Nodes(_api(config)), Services(_api(config))
    nodes.start()
    services.start()
    return HostKeeper(nodes, store, time.monotonic, log), ServiceKeeper(services, store, config, clock, log)


def _api(config: ControllerConfig) -> Api:
    api = open_api(config.store)
    if api is None:
        raise Invalid([f"cluster: store {config.store!r} is in none"])
    return api


def _clock() -> Callable[[], float]:
    """Seconds since the epoch as of now, from here on counted by the monotonic clock: neither a step of the system's
    time nor a suspended laptop makes hosts look dead."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
