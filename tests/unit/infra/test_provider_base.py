"""How three verbs become Pulumi's: what counts as a change, a replacement, a drift, a resource that is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from infra.providers.base import Outputs, Provider, wait
from node_agent.model.errors import Permanent, Temporary


@dataclass(frozen=True, kw_only=True)
class LampProps:
    stack: str
    name: str
    watts: int
    tags: tuple[str, ...] = ()
    note: str = ""
    dry: bool = False


class LampProvider(Provider[LampProps]):
    props = LampProps
    silent = ("note",)
    hidden = ("dry",)

    def __init__(self, world: dict[str, Any]) -> None:
        super().__init__()
        self.world = world

    def observe(self, props: LampProps) -> Outputs | None:
        return self.world.get(props.name)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["lit"])

    def ensure(self, props: LampProps, had: LampProps | None) -> Outputs:
        if props.watts > 100:
            raise Permanent(f"light {props.name}: {props.watts} W is too much")
        self.world[props.name] = {"watts": props.watts, "lit": True}
        return {"lit": True}

    def remove(self, props: LampProps) -> None:
        self.world.pop(props.name, None)


INPUTS = {"stack": "s", "name": "a", "watts": 40.0, "tags": ["x"], "note": "", "__provider": "p"}


@pytest.fixture
def lamp() -> LampProvider:
    return LampProvider({})


def made(lamp: LampProvider) -> dict[str, Any]:
    outs = lamp.create(INPUTS).outs
    assert outs is not None
    return outs


def test_create_keeps_inputs_and_adds_outputs(lamp: LampProvider) -> None:
    result = lamp.create(INPUTS)
    assert result.id == "s/a"
    assert result.outs == {**INPUTS, "lit": True}


def test_no_difference_is_no_change(lamp: LampProvider) -> None:
    assert lamp.diff("s/a", made(lamp), INPUTS).changes is False


def test_a_changed_input_is_an_update_and_a_changed_name_a_replacement(lamp: LampProvider) -> None:
    old = made(lamp)
    assert (lamp.diff("s/a", old, {**INPUTS, "watts": 60}).changes, lamp.diff("s/a", old, {**INPUTS}).replaces) == (
        True,
        [],
    )
    renamed = lamp.diff("s/a", old, {**INPUTS, "name": "b"})
    assert (renamed.replaces, renamed.delete_before_replace) == (["name"], True)


def test_silent_inputs_count_as_no_difference(lamp: LampProvider) -> None:
    assert lamp.diff("s/a", made(lamp), {**INPUTS, "note": "seen"}).changes is False


def test_hidden_inputs_count_as_no_difference_and_arrive_by_their_name(lamp: LampProvider) -> None:
    assert lamp.diff("s/a", made(lamp), {**INPUTS, "__dry": True}).changes is False
    assert lamp._props({**INPUTS, "__dry": True}).dry is True
    assert lamp._props(INPUTS).dry is False


def test_what_cannot_be_looked_at_now_is_a_change(lamp: LampProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    old = made(lamp)

    def dark(_: LampProps) -> Outputs | None:
        raise Temporary("look at the lamp: too dark")

    monkeypatch.setattr(lamp, "observe", dark)
    assert lamp.diff("s/a", old, INPUTS).changes is True


def test_what_is_gone_or_broken_is_a_change(lamp: LampProvider) -> None:
    old = made(lamp)
    lamp.world["a"]["lit"] = False
    assert lamp.diff("s/a", old, INPUTS).changes is True
    lamp.world.clear()
    assert lamp.diff("s/a", old, INPUTS).changes is True


def test_damage_that_a_refresh_wrote_down_is_still_a_change(lamp: LampProvider) -> None:
    old = made(lamp)
    lamp.world["a"]["lit"] = False
    refreshed = lamp.read("s/a", old).outs
    assert refreshed is not None
    assert refreshed["lit"] is False
    assert lamp.diff("s/a", refreshed, INPUTS).changes is True


def test_a_drifted_input_that_a_refresh_wrote_down_is_a_change(lamp: LampProvider) -> None:
    old = made(lamp)
    lamp.world["a"]["watts"] = 25
    refreshed = lamp.read("s/a", old).outs
    assert refreshed is not None
    assert lamp.diff("s/a", refreshed, INPUTS).changes is True


def test_read_of_the_absent_says_so(lamp: LampProvider) -> None:
    assert lamp.read("s/a", made(lamp) and INPUTS).id == "s/a"
    lamp.world.clear()
    assert lamp.read("s/a", INPUTS).id == ""


def test_delete_of_the_absent_is_success(lamp: LampProvider) -> None:
    lamp.delete("s/a", INPUTS)


def test_numbers_and_lists_arrive_as_they_were_declared(lamp: LampProvider) -> None:
    props = lamp._props(INPUTS)
    assert (props.watts, type(props.watts), props.tags) == (40, int, ("x",))


def test_errors_are_told_without_their_inside(lamp: LampProvider) -> None:
    with pytest.raises(RuntimeError, match="light a: 200 W is too much") as caught:
        lamp.create({**INPUTS, "watts": 200})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_wait_ends_with_the_reason() -> None:
    with pytest.raises(Temporary, match="still dark"):
        wait(0.0, lambda: None, lambda: "still dark")
