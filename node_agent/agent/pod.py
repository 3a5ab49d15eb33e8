"""`python -m node_agent.agent.pod --config FILE --as FILE`: the agent of the node that this pod runs on.

Entry of the daemonset's containers, in the host's network. All of them are given one configuration, in which host,
address and uplink are empty: the downward API tells the first two (MIZAR_HOST, MIZAR_ADDRESS), and the uplink is the
interface that has the address. What comes of it is written to `--as`, where tools on the host read it, and is what the
agent then runs with. Exit codes as of `agent.__main__`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from node_agent.agent import __main__ as agent
from node_agent.agent.log import Log
from node_agent.kernel import links
from node_agent.kernel.links import Links
from node_agent.model import config as configs
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, Permanent

HOST, ADDRESS = "MIZAR_HOST", "MIZAR_ADDRESS"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m node_agent.agent.pod", description="The agent of this pod's node.")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="AgentConfig that all nodes share")
    parser.add_argument("--as", required=True, type=Path, metavar="FILE", dest="own", help="where this node's goes")
    given = parser.parse_args(arguments)
    log = Log(os.environ.get(HOST, ""), sys.stderr, time.time)
    try:
        common = configs.load_agent(given.config.read_text())
        with links.opened() as net:
            own = completed(common, os.environ, uplink_of(os.environ.get(ADDRESS, ""), net))
        aside = given.own.with_name(f".{given.own.name}.{os.getpid()}")
        aside.write_text(configs.dump(own))
        aside.rename(given.own)
    except (OSError, Permanent) as error:
        log.error("cannot start", error=f"configure the agent of this node: {error}")
        return 2
    return agent.main(["--config", str(given.own)])


def completed(common: AgentConfig, environment: Mapping[str, str], uplink: str) -> AgentConfig:
    """The configuration of one node; what the common one says already stays. Pure. Raises Invalid with every thing
    that is missing."""
    own = dataclasses.replace(
        common,
        host=common.host or environment.get(HOST, ""),
        address=common.address or environment.get(ADDRESS, ""),
        uplink=common.uplink or uplink,
    )
    mistakes = [f"{HOST}: not set, and the configuration names no host"] if not own.host else []
    mistakes += [f"{ADDRESS}: not set, and the configuration has no address"] if not own.address else []
    if own.address and not own.uplink:
        mistakes.append(f"uplink: no interface of this node has the address {own.address}")
    if mistakes:
        raise Invalid(mistakes)
    return own


def uplink_of(address: str, net: Links) -> str:
    """Name of the interface that has this address; "" when none has."""
    for link in net.all():
        if any(found.partition("/")[0] == address for found in net.addresses(link.name)):
            return link.name
    return ""


if __name__ == "__main__":
    sys.exit(main())
