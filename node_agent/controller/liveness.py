"""Which hosts live, as far as their heartbeats tell. Pure; called by `plan` with what it remembered last time.

Only *changes* of a heartbeat count, timed by the controller's own clock: the clocks of two machines are never
compared, except for a host seen for the first time, whose stamp is all that is known of it. Such a host gets a fifth
of `dead_after` to show a new heartbeat before it counts as dead, and until then nothing is given to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from node_agent.model.config import ControllerConfig
from node_agent.model.objects import NetworkHost


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What is remembered of a host. Times are seconds of the controller's clock.

    `beat_at`: when its heartbeat last changed. `dead`: it is taken for dead. `returned_at`: when it last came back
    from the dead.
    """

    uid: str
    heartbeat: float
    beat_at: float
    dead: bool = False
    returned_at: float = float("-inf")


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host as placement sees it. `eligible`: it may be given a place now."""

    name: str
    address: str
    zone: str = ""
    alive: bool = True
    eligible: bool = True
    drain: bool = False


def feel(
    pulses: Mapping[str, Pulse], hosts: Mapping[str, NetworkHost], now: float, config: ControllerConfig
) -> dict[str, Pulse]:
    """The pulses of exactly these hosts at `now`."""
    return {name: _feel_one(pulses.get(name), host, now, config) for name, host in hosts.items()}


def _feel_one(pulse: Pulse | None, host: NetworkHost, now: float, config: ControllerConfig) -> Pulse:
    heartbeat = host.status.heartbeat
    if pulse is None or pulse.uid != host.meta.uid:
        earliest = now - config.dead_after * 0.8
        beat_at = min(now, max(heartbeat, earliest)) if heartbeat else now
        return Pulse(uid=host.meta.uid, heartbeat=heartbeat, beat_at=beat_at)
    if heartbeat != pulse.heartbeat:
        returned_at = now if pulse.dead else pulse.returned_at
        return replace(pulse, heartbeat=heartbeat, beat_at=now, dead=False, returned_at=returned_at)
    # A host that never had a heartbeat has not died, it has not begun.
    if heartbeat and now - pulse.beat_at > config.dead_after and not pulse.dead:
        return replace(pulse, dead=True)
    return pulse


def view(
    hosts: Mapping[str, NetworkHost], pulses: Mapping[str, Pulse], now: float, config: ControllerConfig
) -> dict[str, Host]:
    """The hosts as placement sees them. A host is eligible when it beat within half of `dead_after`, says that it is
    ready, is not drained and did not return from the dead within `hold_down`."""
    seen = {}
    for name, host in hosts.items():
        pulse = pulses[name]
        beating = bool(pulse.heartbeat) and not pulse.dead and now - pulse.beat_at <= config.dead_after / 2
        rested = now - pulse.returned_at >= config.hold_down
        drain = host.spec.drain or host.meta.deleting
        seen[name] = Host(
            name=name,
            address=host.spec.address,
            zone=host.spec.zone,
            alive=not pulse.dead,
            drain=drain,
            eligible=beating and rested and host.status.ready and not drain,
        )
    return seen


def frozen(pulses: Mapping[str, Pulse], hosts: Mapping[str, Host]) -> bool:
    """More than a third of the hosts that ever lived look dead: more likely it is us who cannot see. Drained hosts do
    not count: they are on their way out, and their silence says nothing about us. `hosts`: as `view` has them."""
    lived = [pulse for name, pulse in pulses.items() if pulse.heartbeat and not hosts[name].drain]
    return 3 * sum(pulse.dead for pulse in lived) > len(lived)
