"""What base.Store promises, held against every store."""

from __future__ import annotations

import threading
import time

import pytest

from node_agent.model.errors import AlreadyExists, Conflict, Invalid, NotFound
from node_agent.model.objects import (
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    SetMember,
    Vpc,
    VpcSpec,
    VpcStatus,
)
from node_agent.store.base import Store, Watch

STATUS = VpcStatus(vni=1000, members=(SetMember(place=0, host="host-1", address="198.18.0.11"),))


def vpc(name: str = "blue", finalizers: tuple[str, ...] = ()) -> Vpc:
    return Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/16"), meta=Meta(finalizers=finalizers))


def endpoint(address: str, host: str = "host-1", subnet: str = "web") -> NetworkEndpoint:
    return NetworkEndpoint(
        name=f"1000-{address}",
        spec=NetworkEndpointSpec(vpc="blue", subnet=subnet, address=address, host=host, container_id=f"c-{address}"),
    )


def seen(watch: Watch) -> list[tuple[str, str]]:
    return [(event.type, event.object.name) for event in watch.poll()]


def test_create_gives_identity_and_keeps_everything(store: Store) -> None:
    made = store.create(
        Vpc(
            name="blue",
            spec=VpcSpec(cidr="10.0.0.0/16", set_size=5),
            status=STATUS,
            meta=Meta(uid="mine", generation=9, deleting=True, finalizers=("a", "b")),
        )
    )
    assert made.meta.uid not in ("", "mine")
    assert (made.meta.generation, made.meta.deleting, made.meta.finalizers) == (1, False, ("a", "b"))
    assert made.meta.resource_version > 0
    assert (made.spec.set_size, made.status) == (5, STATUS)
    assert store.get(Vpc, "blue") == made


def test_the_name_is_the_claim(store: Store) -> None:
    first = store.create(vpc())
    with pytest.raises(AlreadyExists, match="create Vpc blue"):
        store.create(vpc())
    assert store.get(Vpc, "blue") == first
    store.create(NetworkHost(name="blue", spec=NetworkHostSpec(address="198.18.0.11")))  # another kind


def test_an_object_with_floats_and_mappings_comes_back_equal(store: Store) -> None:
    status = NetworkHostStatus(heartbeat=1700000000.25, pid=7, ready=True, problems=("a: b",), generations={"blue": 3})
    made = store.create(NetworkHost(name="h", spec=NetworkHostSpec(address="198.18.0.11"), status=status))
    assert store.get(NetworkHost, "h") == made
    assert made.status == status


def test_get_of_the_absent(store: Store) -> None:
    with pytest.raises(NotFound, match="get Vpc blue"):
        store.get(Vpc, "blue")


def test_list_is_by_name_and_selected(store: Store) -> None:
    for address, host in (("10.0.0.9", "host-2"), ("10.0.0.3", "host-1"), ("10.0.0.4", "host-2")):
        store.create(endpoint(address, host))
    assert [e.spec.address for e in store.list(NetworkEndpoint)] == ["10.0.0.3", "10.0.0.4", "10.0.0.9"]
    found = store.list(NetworkEndpoint, {"spec.host": "host-2", "spec.subnet": "web"})
    assert [e.spec.address for e in found] == ["10.0.0.4", "10.0.0.9"]
    assert [e.name for e in store.list(NetworkEndpoint, {"name": "1000-10.0.0.3"})] == ["1000-10.0.0.3"]
    assert store.list(Vpc) == []


def test_a_selector_of_no_text_field_is_refused(store: Store) -> None:
    with pytest.raises(Invalid) as caught:
        store.list(Vpc, {"spec.nothing": "x", "status.vni": "1000", "spec.cidr') OR 1 --": "x"})
    assert len(caught.value.mistakes) == 3
    with pytest.raises(Invalid):
        store.watch(Vpc, {"meta.uid": "x"})


def test_put_spec_counts_generations_and_leaves_status(store: Store) -> None:
    made = store.create(Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"), status=STATUS))
    put = store.put_spec(Vpc, "blue", VpcSpec(cidr="10.0.0.0/16", set_size=5))
    assert (put.meta.uid, put.meta.generation, put.spec.set_size, put.status) == (made.meta.uid, 2, 5, STATUS)
    assert put.meta.resource_version > made.meta.resource_version
    assert store.get(Vpc, "blue") == put


def test_put_status_leaves_spec_and_generation(store: Store) -> None:
    made = store.create(vpc())
    put = store.put_status(Vpc, "blue", STATUS, uid=made.meta.uid, resource_version=made.meta.resource_version)
    assert (put.spec, put.meta.generation, put.status) == (made.spec, 1, STATUS)
    assert put.meta.resource_version > made.meta.resource_version


def test_equal_values_are_no_write(store: Store) -> None:
    made = store.create(vpc())
    watch = store.watch(Vpc)
    watch.poll()
    assert store.put_spec(Vpc, "blue", made.spec) == made
    assert store.put_status(Vpc, "blue", made.status) == made
    assert store.get(Vpc, "blue").meta == made.meta
    assert watch.poll() == [] or watch.poll() == ()


def test_preconditions(store: Store) -> None:
    made = store.create(vpc())
    now = store.put_status(Vpc, "blue", STATUS)
    with pytest.raises(Conflict):
        store.put_status(Vpc, "blue", VpcStatus(vni=2), resource_version=made.meta.resource_version)
    with pytest.raises(Conflict):
        store.put_spec(Vpc, "blue", VpcSpec(cidr="10.1.0.0/16"), resource_version=made.meta.resource_version)
    with pytest.raises(Conflict):
        store.put_status(Vpc, "blue", VpcStatus(vni=2), uid="another")
    with pytest.raises(Conflict):
        store.delete(Vpc, "blue", uid="another")
    assert store.get(Vpc, "blue") == now
    for name in ("put_spec", "put_status"):
        with pytest.raises(NotFound):
            getattr(store, name)(Vpc, "red", made.spec if name == "put_spec" else made.status)


def test_a_part_of_another_kind_is_refused(store: Store) -> None:
    store.create(vpc())
    with pytest.raises(Invalid):
        store.put_spec(Vpc, "blue", NetworkHostSpec(address="198.18.0.11"))
    with pytest.raises(Invalid):
        store.put_status(Vpc, "blue", NetworkEndpointStatus())


def test_delete_and_create_again_is_another_object(store: Store) -> None:
    first = store.create(vpc())
    store.delete(Vpc, "blue", uid=first.meta.uid)
    store.delete(Vpc, "blue")  # absent: nothing to do
    with pytest.raises(NotFound):
        store.get(Vpc, "blue")
    second = store.create(vpc())
    assert second.meta.uid != first.meta.uid
    assert second.meta.resource_version > first.meta.resource_version
    with pytest.raises(Conflict):
        store.delete(Vpc, "blue", uid=first.meta.uid)


def test_finalizers_hold_a_deleting_object(store: Store) -> None:
    made = store.create(vpc(finalizers=("a", "b")))
    store.delete(Vpc, "blue")
    marked = store.get(Vpc, "blue")
    assert marked.meta.deleting
    assert marked.meta.resource_version > made.meta.resource_version
    store.delete(Vpc, "blue")
    assert store.get(Vpc, "blue") == marked
    with pytest.raises(AlreadyExists):
        store.create(vpc())
    store.drop_finalizer(Vpc, "blue", "a", uid=made.meta.uid)
    assert store.get(Vpc, "blue").meta.finalizers == ("b",)
    store.drop_finalizer(Vpc, "blue", "b", uid="another")  # the object that was meant is gone
    store.drop_finalizer(Vpc, "blue", "c")
    assert store.get(Vpc, "blue").meta.finalizers == ("b",)
    store.drop_finalizer(Vpc, "blue", "b")
    with pytest.raises(NotFound):
        store.get(Vpc, "blue")
    store.drop_finalizer(Vpc, "blue", "b")


def test_the_last_finalizer_of_a_living_object_removes_nothing(store: Store) -> None:
    store.create(vpc(finalizers=("a",)))
    store.drop_finalizer(Vpc, "blue", "a")
    assert store.get(Vpc, "blue").meta.finalizers == ()
    store.delete(Vpc, "blue")
    assert store.list(Vpc) == []


def test_a_watch_begins_with_everything_that_matches(store: Store) -> None:
    store.create(endpoint("10.0.0.3"))
    store.create(endpoint("10.0.0.4", "host-2"))
    watch = store.watch(NetworkEndpoint, {"spec.host": "host-1"})
    store.create(vpc())
    assert seen(watch) == [("put", "1000-10.0.0.3")]
    assert seen(watch) == []


def test_a_watch_sees_the_object_as_it_is_now(store: Store) -> None:
    watch = store.watch(Vpc)
    assert seen(watch) == []
    store.create(vpc())
    put = store.put_status(Vpc, "blue", STATUS)
    [event] = watch.poll()
    assert (event.type, event.object) == ("put", put)


def test_a_watch_tells_of_deletion_and_marks(store: Store) -> None:
    watch = store.watch(Vpc)
    store.create(vpc(finalizers=("a",)))
    store.create(vpc("red"))
    assert seen(watch) == [("put", "blue"), ("put", "red")]
    store.delete(Vpc, "blue")
    [event] = watch.poll()
    assert event.type == "put"
    assert event.object.meta.deleting
    store.drop_finalizer(Vpc, "blue", "a")
    store.delete(Vpc, "red")
    assert sorted(seen(watch)) == [("gone", "blue"), ("gone", "red")]
    assert seen(watch) == []


def test_what_lived_between_two_polls_only_is_not_told(store: Store) -> None:
    watch = store.watch(Vpc)
    watch.poll()
    store.create(vpc())
    store.delete(Vpc, "blue")
    assert seen(watch) == []


def test_delete_and_create_merge_into_one_put_with_another_uid(store: Store) -> None:
    watch = store.watch(Vpc)
    store.create(vpc())
    [before] = watch.poll()
    store.delete(Vpc, "blue")
    again = store.create(vpc())
    [event] = watch.poll()
    assert (event.type, event.object) == ("put", again)
    assert event.object.meta.uid != before.object.meta.uid


def test_what_stops_matching_is_gone_and_comes_back(store: Store) -> None:
    old, new = (store.watch(NetworkEndpoint, {"spec.host": host}) for host in ("host-1", "host-2"))
    first = store.create(endpoint("10.0.0.3"))
    assert (seen(old), seen(new)) == ([("put", first.name)], [])
    store.put_spec(NetworkEndpoint, first.name, endpoint("10.0.0.3", "host-2").spec)
    [event] = old.poll()
    assert (event.type, event.object) == ("gone", first)  # as it last was for this watch
    assert seen(new) == [("put", first.name)]
    store.put_spec(NetworkEndpoint, first.name, first.spec)
    assert (seen(old), seen(new)) == ([("put", first.name)], [("gone", first.name)])


def test_moved_and_then_deleted_is_gone_once(store: Store) -> None:
    watch = store.watch(NetworkEndpoint, {"spec.host": "host-1"})
    first = store.create(endpoint("10.0.0.3"))
    watch.poll()
    store.put_spec(NetworkEndpoint, first.name, endpoint("10.0.0.3", "host-2").spec)
    store.delete(NetworkEndpoint, first.name)
    store.create(endpoint("10.0.0.3", "host-3"))
    assert seen(watch) == [("gone", first.name)]
    assert seen(watch) == []


def test_a_watch_of_one_name(store: Store) -> None:
    watch = store.watch(Vpc, {"name": "blue"})
    store.create(vpc("red"))
    store.create(vpc("blue"))
    assert seen(watch) == [("put", "blue")]


def test_a_waiting_poll_ends_with_the_change(store: Store) -> None:
    watch = store.watch(Vpc)
    watch.poll()
    writer = threading.Timer(0.15, store.create, [vpc()])
    writer.start()
    begin = time.monotonic()
    events = watch.poll(timeout=20)
    assert [event.object.name for event in events] == ["blue"]
    print(f"\nheard of it after {time.monotonic() - begin:.2f} s")
    writer.join()


def test_a_waiting_poll_gives_up_and_the_view_stays_fresh(store: Store) -> None:
    watch = store.watch(Vpc)
    assert watch.fresh_at == float("-inf")
    begin = time.monotonic()
    assert not watch.poll(timeout=0.1)
    assert time.monotonic() - begin >= 0.09, "it did not wait"
    assert watch.fresh_at >= begin


def test_a_closed_watch_is_silent(store: Store) -> None:
    watch = store.watch(Vpc)
    watch.close()
    store.create(vpc())
    assert not watch.poll(timeout=20)


def test_threads_share_a_store(store: Store) -> None:
    def work(number: int) -> None:
        for i in range(20):
            store.create(vpc(f"vpc-{number}-{i}"))
            store.get(Vpc, f"vpc-{number}-{i}")
            store.put_status(Vpc, f"vpc-{number}-{i}", STATUS)

    threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.meta.resource_version for each in store.list(Vpc)}) == 80
    assert all(each.status == STATUS for each in store.list(Vpc))
