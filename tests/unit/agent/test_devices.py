"""Who compares finds nobody at work, and is not kept out by those who keep coming."""

from __future__ import annotations

import threading
import time

from node_agent.agent.devices import Devices

PATIENCE = 10.0


def test_many_change_at_once() -> None:
    devices, meeting = Devices(), threading.Barrier(3, timeout=PATIENCE)

    def change() -> None:
        with devices.changing():
            meeting.wait()

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not meeting.broken


def test_who_compares_waits_for_those_at_work_and_then_is_alone() -> None:
    devices = Devices()
    steps: list[str] = []
    compared, done = threading.Event(), threading.Event()

    def compare() -> None:
        with devices.comparing():
            steps.append("compared")
            compared.set()

    def change() -> None:
        with devices.changing():
            steps.append("changed")
            done.set()

    with devices.changing():
        comparer = threading.Thread(target=compare)
        comparer.start()
        end = time.monotonic() + PATIENCE
        while not devices._comparing:  # it stands in the door: who comes now is behind it
            assert time.monotonic() < end
        changer = threading.Thread(target=change)
        changer.start()
        assert not compared.wait(0.05) and not done.is_set()
        steps.append("left")
    comparer.join(PATIENCE)
    changer.join(PATIENCE)
    assert steps == ["left", "compared", "changed"]


def test_an_error_inside_lets_others_in() -> None:
    devices = Devices()
    for block in (devices.changing, devices.comparing):
        try:
            with block():
                raise ValueError
        except ValueError:
            pass
    with devices.comparing():
        pass
