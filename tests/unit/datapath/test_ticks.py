"""The length of a tick, and what contradicts it."""

import pytest

from node_agent.datapath.ticks import Ticks, check
from node_agent.model.errors import Permanent


class World:
    """Seconds pass in `wait` and, when the machine is busy, in every reading of the tick."""

    def __init__(self, hz: int, busy: float = 0.0, first: float = 100.0) -> None:
        self.now, self._hz, self._busy, self._first = 0.0, hz, busy, first

    def read(self) -> int:
        self.now += self._busy
        return int(self._first + self.now * self._hz) & 0x7FFFFFFF

    def wait(self, seconds: float) -> None:
        self.now += seconds + self._busy

    def check(self, hz: int) -> Ticks:
        return check(hz, self.read, now=lambda: self.now, wait=self.wait)


@pytest.mark.parametrize("hz", [100, 250, 300, 1000])
@pytest.mark.parametrize("busy", [0.0, 0.001, 0.5])
def test_the_right_length_is_believed_however_busy_the_machine_is(hz: int, busy: float) -> None:
    assert World(hz, busy).check(hz) == Ticks(hz)
    assert World(hz, busy, first=0x7FFFFFFE).check(hz) == Ticks(hz)


def test_a_wrong_length_is_refused() -> None:
    with pytest.raises(Permanent, match="the coarse clock says 100 a second"):
        World(1000).check(100)
    with pytest.raises(Permanent, match="the coarse clock says 1000"):
        World(100).check(1000)


def test_seconds_become_ticks_and_never_none() -> None:
    assert [Ticks(250).of(s) for s in (30.0, 0.05, 0.001, 0.0)] == [7500, 12, 1, 1]
