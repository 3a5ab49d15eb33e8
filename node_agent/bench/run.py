"""Runs the chosen scenarios round by round over all their subjects. Called by `__main__` and the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from node_agent.bench import machine, rivals
from node_agent.bench.bed import Bed, made
from node_agent.bench.bouncer import Bouncer
from node_agent.bench.figures import HOST, METADATA, PLAIN, VXLAN, Sample
from node_agent.bench.frames import Frames
from node_agent.bench.machine import Machine, Others
from node_agent.bench.scenarios import Rig, Scenario, Turn, Values
from node_agent.bench.wire import WirePorts
from node_agent.emulation import processes
from node_agent.model.config import UplinkMode

NOISY = 0.03  # of all CPUs, taken by others: such a measurement is made again
AGAIN = 2  # times at most; the quietest one counts


@dataclass(frozen=True)
class Result:
    """`others`: for each measurement that counts, the part of all CPUs that other programs took. `repeated`: how many
    were made again because of that."""

    machine: Machine
    samples: tuple[Sample, ...]
    others: tuple[float, ...]
    repeated: int


def run(
    scenarios: Sequence[Scenario], rounds: int, seconds: float, mode: UplinkMode, say: Callable[[str], None]
) -> Result:
    """All of it, in a network of its own that is gone afterwards. `say` hears how it goes. Raises MizarError."""
    say("making the network")
    with made(mode) as bed, _rig(bed, scenarios, say) as rig:
        wire, quiet = WirePorts(bed.places), Quiet(bed)
        samples: list[Sample] = []
        for number in range(rounds):
            for scenario in sorted(scenarios, key=lambda s: s.wire):  # stable: the wire changes once a round
                wire.become(scenario.wire)
                for subject in rotated(subjects_of(scenario, mode), number):
                    values = quiet.measure(Turn(rig, subject, number, seconds), scenario)
                    say(f"round {number + 1} of {rounds}: {subject}: {_told(scenario, values)}")
                    samples += [Sample(f.name, subject, number, values[f.name]) for f in scenario.figures]
            wire.become("gso")
        return Result(machine.describe(), tuple(samples), tuple(quiet.others), quiet.repeated)


def subjects_of(scenario: Scenario, mode: UplinkMode) -> tuple[str, ...]:
    """Whom it measures: PLAIN only where it differs from MIZAR."""
    return tuple(subject for subject in scenario.subjects if subject != PLAIN or mode != "tc")


def rotated(subjects: Sequence[str], number: int) -> tuple[str, ...]:
    """Another one begins each round: nobody is always the one after the noise of somebody else's start."""
    at = number % len(subjects)
    return (*subjects[at:], *subjects[:at])


class Quiet:
    """Measures, and again when others were using the machine: chosen by their noise, never by the figures."""

    def __init__(self, bed: Bed) -> None:
        self._pids = processes.marked(bed.places.root)
        self.others: list[float] = []
        self.repeated = 0

    def measure(self, turn: Turn, scenario: Scenario) -> Values:
        tries: list[tuple[float, Values]] = []
        while len(tries) <= AGAIN and all(share > NOISY for share, _ in tries):
            others = Others(self._pids)
            values = scenario.measure(turn)
            tries.append((others.share(), values))
        self.repeated += len(tries) - 1
        share, values = min(tries, key=lambda made: made[0])
        self.others.append(share)
        return values


def _told(scenario: Scenario, values: Values) -> str:
    said = ", ".join(f"{values[figure.name]:.{figure.digits}f} {figure.unit}" for figure in scenario.figures)
    return f"{scenario.name}: {said}"


@contextlib.contextmanager
def _rig(bed: Bed, scenarios: Sequence[Scenario], say: Callable[[str], None]) -> Iterator[Rig]:
    """What the chosen scenarios need; hosts and endpoints of Mizar always."""
    subjects = {subject for scenario in scenarios for subject in scenario.subjects}
    with contextlib.ExitStack() as held:
        pairs = bed.start()
        if subjects & {VXLAN, HOST}:
            pairs[VXLAN], pairs[HOST] = rivals.vxlan(bed)
        if METADATA in subjects:
            pairs[METADATA] = rivals.metadata(bed)
        frames = bouncer = None
        if any(scenario.name == "udp-frames" for scenario in scenarios):
            frames = held.enter_context(Frames(bed.programs))
        if "bouncer" in subjects:
            say("filling a bouncer")
            bouncer = held.enter_context(contextlib.closing(Bouncer(bed)))
        yield Rig(bed, pairs, frames, bouncer)
