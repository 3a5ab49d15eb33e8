"""Waiting until a new endpoint can be reached: its bouncers are asked about it, by the very queries packets make.

Called by `endpoints` at the end of ADD, and by `moves`. An answer that allows installs an entry for a flow that nothing
else uses, which this host then finds in its own flow table: so the whole way there and back is known to work.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from node_agent.agent.kernel import Kernel
from node_agent.agent.tables import Tables
from node_agent.datapath.query import asked_flow, question
from node_agent.model.errors import Temporary
from node_agent.model.objects import NetworkEndpoint, Subnet, Vpc
from node_agent.rows.image import number

PATIENCE = 1.0  # seconds for all bouncers; after that one of them is enough
LAST_PATIENCE = 2.0  # seconds after which not even one has answered, and the caller is to try again
# Seconds. A bouncer hears of the endpoint some milliseconds after we have written it, and does not tell us: so it is
# asked again soon, then less and less often. The same holds for looking whether it has answered.
ASK_FIRST, ASK_LEAST = 0.002, 0.05
LOOK_FIRST, LOOK_LEAST = 0.001, 0.005


def bouncers(vpc: Vpc, subnet: Subnet) -> dict[str, str]:
    """Host -> underlay address of the subnet's bouncers that may be asked. Pure."""
    return {m.host: m.address for m in vpc.status.members if m.state == "active" and m.place in subnet.status.bouncers}


def wait_served(
    endpoint: NetworkEndpoint,
    vni: int,
    asked: Mapping[str, str],
    own: tuple[str, str],
    tables: Tables,
    kernel: Kernel,
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> set[str]:
    """Hosts of those in `asked` (name -> address) that know where the endpoint lives, as its status says, and let this
    host ask in its name. `own`: this host's name and address.

    Returns when all do, or after PATIENCE when one does. Raises Temporary when none does.
    """
    host, address = own
    where = number(endpoint.status.host_address)
    marks = dict(zip(asked, secrets.SystemRandom().sample(range(1, 1 << 16), len(asked)), strict=True))
    begun, next_ask, served = monotonic(), float("-inf"), set[str]()
    pause, look = ASK_FIRST, LOOK_FIRST
    while True:
        now = monotonic()
        if now >= next_ask:
            for name in asked.keys() - served - {host}:
                kernel.send(asked[name], question(vni, endpoint.spec.address, address, marks[name]))
            next_ask, pause = now + pause, min(ASK_LEAST, 1.5 * pause)
        for name in asked.keys() - served:
            if name == host:
                known = tables.bounces(endpoint)
            else:
                entry = tables.take_flow(asked_flow(vni, endpoint.spec.address, marks[name]))
                known = entry is not None and entry.host == where
            if known:
                served.add(name)
        if served == asked.keys() or (served and now - begun >= PATIENCE):
            return served
        if now - begun >= LAST_PATIENCE:
            raise Temporary(
                f"reach {endpoint.spec.address}: no bouncer of {endpoint.spec.subnet} knows it yet "
                f"({', '.join(sorted(asked))})",
                delay=0.5,
            )
        sleep(look)
        look = min(LOOK_LEAST, 1.2 * look)
