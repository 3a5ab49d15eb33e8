from __future__ import annotations

from dataclasses import replace
from typing import Any

from node_agent.model.objects import Meta, Object, Vpc, VpcSpec, VpcStatus
from node_agent.store.kubernetes_view import View
from node_agent.store.selector import selector


def vpc(revision: int, name: str = "blue", uid: str = "1", **status: Any) -> Vpc:
    return Vpc(
        name=name,
        spec=VpcSpec(cidr="10.0.0.0/16"),
        status=VpcStatus(**status),
        meta=Meta(uid=uid, resource_version=revision),
    )


def view(*objects: Object, revision: int = 10, **where: str) -> View:
    made = View(selector(Vpc, where))
    made.listed(objects, revision)
    made.opened()
    made.take()
    return made


def told(of: View) -> list[tuple[str, str, int]]:
    return [(event.type, event.object.name, event.object.meta.resource_version) for event in of.take()]


def test_the_first_list_is_all_puts_by_revision() -> None:
    made = View(selector(Vpc, None))
    made.listed([vpc(7), vpc(3, "red")], 10)
    assert told(made) == [("put", "red", 3), ("put", "blue", 7)]
    assert told(made) == []
    assert made.revision == 10


def test_own_writes_are_told_once_however_the_stream_repeats_them() -> None:
    made = view(vpc(5))
    made.wrote(vpc(12, vni=1))
    assert told(made) == [("put", "blue", 12)]
    made.changed(vpc(11))  # what the server says of the time before
    made.changed(vpc(12, vni=1))
    assert told(made) == []
    made.changed(vpc(13, vni=2))
    assert told(made) == [("put", "blue", 13)]


def test_an_answer_that_comes_after_the_stream_has_told_more_is_old() -> None:
    made = view(vpc(5))
    made.changed(vpc(14, vni=2))
    made.wrote(vpc(12, vni=1))
    assert told(made) == [("put", "blue", 14)]


def test_an_own_write_that_matches_no_longer_is_gone_and_stays_so() -> None:
    made = view(vpc(5), name="blue")
    made.wrote(vpc(12, "red"))
    assert told(made) == []
    made.removed("blue", "1")
    made.changed(vpc(11, vni=3))  # of before the delete
    assert told(made) == [("gone", "blue", 5)]
    assert told(made) == []


def test_what_an_own_write_took_out_of_the_selection_is_not_brought_back_by_older_news() -> None:
    made = View(selector(Vpc, {"spec.cidr": "10.0.0.0/16"}))
    made.listed([vpc(5)], 10)
    made.take()
    made.wrote(replace(vpc(12), spec=VpcSpec(cidr="10.1.0.0/16")))
    made.changed(vpc(11, vni=3))
    assert told(made) == [("gone", "blue", 5)]
    made.changed(vpc(13, vni=3))
    assert told(made) == [("put", "blue", 13)]


def test_a_delete_and_a_create_of_ours_outlive_what_the_stream_tells_of_before() -> None:
    made = view(vpc(5))
    made.removed("blue", "1")
    made.wrote(vpc(20, uid="2"))
    made.changed(vpc(11, vni=3))
    made.left(vpc(19))
    assert told(made) == [("put", "blue", 20)]
    made.changed(vpc(20, uid="2"))
    made.left(vpc(21, uid="2"))
    assert told(made) == [("gone", "blue", 20)]


def test_a_list_of_before_an_own_write_does_not_undo_it() -> None:
    made = view(vpc(5), vpc(6, "red"))
    made.wrote(vpc(20, "new"))
    made.removed("red", "1")
    made.listed([vpc(5), vpc(6, "red", uid="1")], 15)
    assert told(made) == [("gone", "red", 6), ("put", "new", 20)]
    made.listed([vpc(5)], 25)  # somebody deleted it meanwhile
    assert told(made) == [("gone", "new", 20)]


def test_a_relist_tells_the_difference_only() -> None:
    made = view(vpc(1), vpc(2, "changed"), vpc(3, "deleted"), vpc(4, "again", uid="4"))
    made.listed([vpc(1), vpc(12, "changed"), vpc(13, "again", uid="5"), vpc(14, "new")], 20)
    assert told(made) == [("gone", "deleted", 3), ("put", "changed", 12), ("put", "again", 13), ("put", "new", 14)]


def test_a_history_that_went_back_is_another_world() -> None:
    made = view(vpc(500), vpc(501, "gone"), revision=600)
    made.wrote(vpc(700, "mine"))
    made.take()
    made.listed([vpc(3, uid="9")], 8)
    assert told(made) == [("gone", "gone", 501), ("gone", "mine", 700), ("put", "blue", 3)]
    assert made.revision == 8
    made.changed(vpc(9, uid="9", vni=1))
    assert told(made) == [("put", "blue", 9)]


def test_nothing_is_remembered_for_ever() -> None:
    made = view(vpc(5))
    made.removed("other", "9")
    made.wrote(vpc(12, vni=1))
    made.passed(12)
    made.opened()
    made.opened()
    assert (made._dead, made._ahead) == ({}, {})
