"""The Kubernetes store when the API server restarts, forgets, loses its etcd, or refuses."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from node_agent.model.errors import AlreadyExists, Conflict, Invalid, MizarError, NotFound, Permanent, Temporary
from node_agent.model.objects import (
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    Object,
    Vpc,
    VpcSpec,
    VpcStatus,
    Watermark,
    WatermarkStatus,
)
from node_agent.store.base import Store, Watch
from node_agent.store.kubernetes import KubernetesStore
from node_agent.store.kubernetes_access import from_kubeconfig
from node_agent.store.kubernetes_http import Expired
from node_agent.store.kubernetes_watch import KubernetesWatch
from tests.contract.apiserver import ApiServer
from tests.waiting import until

pytestmark = pytest.mark.root

SPEC = VpcSpec(cidr="10.0.0.0/16")
PATIENCE = 60.0


@pytest.fixture
def server(api_server: ApiServer, kubernetes: Store) -> Iterator[ApiServer]:
    """One that the test may stop."""
    yield api_server
    for name in ("kube-apiserver", "etcd"):
        with contextlib.suppress(KeyError):
            api_server.signal(name, signal.SIGCONT)
    api_server.start()


@pytest.fixture
def late(kubernetes: Store, api_server: ApiServer) -> Iterator[KubernetesStore]:
    """Another process's store, whose streams are renewed every few seconds."""
    store = KubernetesStore(from_kubeconfig(api_server.kubeconfig), renew=5)
    yield store
    store.close()


class View:
    """What a user of a watch knows, and how it went."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.objects: dict[str, Object] = {}
        self.told: list[tuple[str, str]] = []
        self.troubles: list[str] = []

    def take(self) -> None:
        try:
            events = self.watch.poll(0.02)
        except Temporary as error:
            self.troubles.append(str(error))
            time.sleep(0.05)
            return
        for event in events:
            self.told.append((event.type, event.object.name))
            if event.type == "put":
                self.objects[event.object.name] = event.object
            else:
                assert self.objects.pop(event.object.name) == event.object

    def until(self, true: Callable[[], object]) -> None:
        def look() -> object:
            if not (found := true()):
                self.take()
            return found

        until(look, PATIENCE, lambda: (self.told, self.troubles[-3:]), pause=0.0)

    def names(self) -> set[str]:
        return set(self.objects)


def again(verb: Callable[[], Any]) -> Any:
    """As every caller of a store does: what is temporary is tried again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return verb()
        except Temporary:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_watch_goes_on_when_the_api_server_restarts(
    kubernetes: Store, late: KubernetesStore, server: ApiServer
) -> None:
    view = View(late.watch(Vpc))
    kubernetes.create(Vpc(name="before", spec=SPEC))
    view.until(lambda: view.names() == {"before"})
    server.stop("kube-apiserver")
    view.until(lambda: any("cannot reach" in said for said in view.troubles))
    with pytest.raises(Temporary, match="get Vpc before: cannot reach https://"):
        kubernetes.get(Vpc, "before")
    server.start()
    again(lambda: kubernetes.create(Vpc(name="after", spec=SPEC)))
    view.until(lambda: view.names() == {"before", "after"})
    assert view.told == [("put", "before"), ("put", "after")], "nothing is told twice"
    troubles = len(view.troubles)
    again(lambda: kubernetes.delete(Vpc, "before"))
    view.until(lambda: view.names() == {"after"})
    assert len(view.troubles) == troubles


class Cut:
    """An API whose streams can be cut for a while; it remembers why the server refused one."""

    def __init__(self, watch: Any) -> None:
        self._api, self._watch, self.refused = watch._api, watch, list[MizarError]()
        self.open = True
        watch._api = self

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._api, verb)

    @contextlib.contextmanager
    def stream(self, *arguments: Any) -> Iterator[Any]:
        if not self.open:
            raise Temporary("cut")
        try:
            with self._api.stream(*arguments) as stream:
                yield stream
        except MizarError as error:
            self.refused.append(error)
            raise

    def now(self, view: View) -> None:
        self.open = False

        def cut() -> bool:
            if stream := self._watch._stream:
                stream.stop()
            return bool(view.troubles)

        view.until(cut)


def test_what_the_server_has_forgotten_is_found_by_comparing(
    kubernetes: Store, late: KubernetesStore, server: ApiServer
) -> None:
    watch = late.watch(Vpc)
    view, cut = View(watch), Cut(watch)
    kept, _, changed, again_made = (
        kubernetes.create(Vpc(name=name, spec=SPEC)) for name in ("kept", "deleted", "changed", "again")
    )
    view.until(lambda: len(view.objects) == 4)
    cut.now(view)
    kubernetes.delete(Vpc, "deleted")
    kubernetes.put_status(Vpc, "changed", VpcStatus(vni=7))
    kubernetes.delete(Vpc, "again")
    made = kubernetes.create(Vpc(name="again", spec=SPEC))
    # Its memory of changes dies with it.
    server.stop("kube-apiserver")
    server.start()
    view.told.clear()
    cut.open = True
    view.until(lambda: view.told)
    assert any(isinstance(error, Expired) for error in cut.refused), "the server said 410 Gone"
    assert view.told == [("gone", "deleted"), ("put", "changed"), ("put", "again")]
    assert view.objects["kept"] == kept
    assert view.objects["changed"].meta.uid == changed.meta.uid
    assert view.objects["again"] == made
    assert made.meta.uid != again_made.meta.uid


def test_a_watch_wakes_its_user_for_what_others_wrote(kubernetes: Store, late: KubernetesStore) -> None:
    woken = threading.Event()
    watch = late.watch(Vpc, {}, woken.set)
    assert watch.poll() == ()
    for verb in (
        lambda: kubernetes.create(Vpc(name="other", spec=SPEC)),
        lambda: kubernetes.put_status(Vpc, "other", VpcStatus(vni=7)),
        lambda: kubernetes.delete(Vpc, "other"),
    ):
        woken.clear()
        verb()
        assert woken.wait(PATIENCE)
        assert {event.object.name for event in watch.poll()} == {"other"}


def test_a_finalizer_is_lifted_by_what_a_watch_shows_and_also_when_that_is_old(
    kubernetes: Store, late: KubernetesStore
) -> None:
    spec = NetworkEndpointSpec(vpc="blue", subnet="web", address="10.0.0.3", host="host-1", container_id="c")
    watch = late.watch(NetworkEndpoint, {"spec.host": "host-1"})
    assert watch.poll() == ()
    for changed in (False, True):
        made = late.create(NetworkEndpoint(name="1000-10.0.0.3", spec=spec, meta=Meta(finalizers=("a/b", "c/d"))))
        assert watch.find(made.name) == made
        if changed:
            watch.close()  # what it shows gets old from now on
            kubernetes.drop_finalizer(NetworkEndpoint, made.name, "c/d", uid=made.meta.uid)
        else:
            late.drop_finalizer(NetworkEndpoint, made.name, "c/d", uid=made.meta.uid)
        late.delete(NetworkEndpoint, made.name, uid=made.meta.uid)
        late.drop_finalizer(NetworkEndpoint, made.name, "a/b", uid=made.meta.uid)
        assert late.list(NetworkEndpoint) == []


def test_a_delete_and_a_create_behind_a_broken_stream_are_one_put(kubernetes: Store, late: KubernetesStore) -> None:
    watch = late.watch(NetworkEndpoint, {"spec.host": "host-1"})
    view, cut = View(watch), Cut(watch)
    endpoint = NetworkEndpoint(
        name="1000-10.0.0.3",
        spec=NetworkEndpointSpec(vpc="blue", subnet="web", address="10.0.0.3", host="host-1", container_id="c"),
    )
    first = kubernetes.create(endpoint)
    view.until(lambda: view.objects)
    cut.now(view)
    kubernetes.delete(NetworkEndpoint, endpoint.name)
    second = kubernetes.create(endpoint)
    view.told.clear()
    cut.open = True
    # The server tells three events; the watch's user sees one change at the end of them.
    until(lambda: watch.known() == {endpoint.name: second}, PATIENCE, "the second")
    [event] = again(watch.poll)
    assert (event.type, event.object) == ("put", second)
    assert second.meta.uid != first.meta.uid


def test_another_etcd_behind_the_same_address_is_another_world(
    kubernetes: Store, late: KubernetesStore, server: ApiServer
) -> None:
    view = View(late.watch(Vpc))
    for number in range(30):
        kubernetes.create(Vpc(name=f"old-{number}", spec=SPEC))
    view.until(lambda: len(view.objects) == 30)
    server.wipe()
    again(lambda: kubernetes.create(Vpc(name="new", spec=SPEC)))
    view.until(lambda: view.names() == {"new"})


def test_a_quiet_view_is_known_to_be_fresh(kubernetes: Store, late: KubernetesStore) -> None:
    view = View(late.watch(Vpc))
    view.take()
    for _ in range(2):
        before = view.watch.fresh_at
        view.until(lambda before=before: view.watch.fresh_at > before)  # type: ignore[misc]
    assert not view.troubles
    assert not view.told


def test_a_view_ages_when_the_server_cannot_reach_its_etcd(
    kubernetes: Store, late: KubernetesStore, server: ApiServer
) -> None:
    view = View(late.watch(Vpc))
    kubernetes.create(Vpc(name="blue", spec=SPEC))
    view.until(lambda: view.objects)
    server.signal("etcd", signal.SIGSTOP)
    stopped = time.monotonic()
    view.until(lambda: view.troubles)  # the stream alone would not have told
    assert view.watch.fresh_at < stopped + 5
    server.signal("etcd", signal.SIGCONT)
    view.until(lambda: view.watch.fresh_at > stopped + 5)
    assert view.names() == {"blue"}


def test_closing_ends_a_poll_and_a_stream_that_wait(kubernetes: Store) -> None:
    watch = kubernetes.watch(Vpc)
    assert isinstance(watch, KubernetesWatch)
    watch.poll()
    poll = threading.Thread(target=watch.poll, args=[600])
    poll.start()
    deadline = time.monotonic() + PATIENCE
    while watch._stream is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch.close()
    poll.join(15)
    watch.join(15)  # the server would end the stream after 24 s at the earliest
    assert not poll.is_alive()
    assert watch._thread is not None
    assert not watch._thread.is_alive()


def test_verbs_of_a_closed_store(late: KubernetesStore) -> None:
    late.close()
    for verb in (lambda: late.get(Vpc, "x"), lambda: late.list(Vpc), lambda: late.watch(Vpc)):
        with pytest.raises(Permanent, match="the store is closed"):
            verb()


def test_of_many_who_claim_a_name_one_has_it(kubernetes: Store, api_server: ApiServer) -> None:
    won: list[str] = []
    stores = [KubernetesStore(from_kubeconfig(api_server.kubeconfig)) for _ in range(4)]

    def claim(store: KubernetesStore) -> None:
        for number in range(20):
            with contextlib.suppress(AlreadyExists):
                won.append(store.create(Vpc(name=f"name-{number}", spec=SPEC)).name)

    threads = [threading.Thread(target=claim, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert sorted(won) == sorted(f"name-{number}" for number in range(20))


def test_no_update_with_a_precondition_is_lost(kubernetes: Store, api_server: ApiServer) -> None:
    kubernetes.create(Watermark(name="vni"))
    stores = [KubernetesStore(from_kubeconfig(api_server.kubeconfig)) for _ in range(3)]

    def count(store: KubernetesStore) -> None:
        done = 0
        while done < 15:
            mark = store.get(Watermark, "vni")
            status = WatermarkStatus(value=mark.status.value + 1)
            with contextlib.suppress(Conflict):
                store.put_status(
                    Watermark, "vni", status, uid=mark.meta.uid, resource_version=mark.meta.resource_version
                )
                done += 1

    threads = [threading.Thread(target=count, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert kubernetes.get(Watermark, "vni").status.value == 45


def test_a_create_whose_status_is_refused_leaves_nothing(kubernetes: Store) -> None:
    wrong = Vpc(name="blue", spec=SPEC, status=VpcStatus(vni=1 << 24), meta=Meta(finalizers=("mizar.com/vpc",)))
    with pytest.raises(Invalid, match=r"create Vpc blue: status\.vni"):
        kubernetes.create(wrong)
    with pytest.raises(NotFound):
        kubernetes.get(Vpc, "blue")


def test_a_selector_may_hold_anything(kubernetes: Store) -> None:
    strange = "a,b=c\\d"
    endpoint = NetworkEndpoint(
        name="1000-10.0.0.3",
        spec=NetworkEndpointSpec(vpc="v", subnet="s", address="10.0.0.3", host=strange, container_id="c", workload="w"),
    )
    made = kubernetes.create(endpoint)
    assert kubernetes.list(NetworkEndpoint, {"spec.host": strange}) == [made]
    assert kubernetes.list(NetworkEndpoint, {"spec.host": "a"}) == []
    # No field that the server selects by, and one that is empty.
    assert kubernetes.list(NetworkEndpoint, {"spec.workload": "w", "status.host": ""}) == [made]
    assert kubernetes.list(NetworkEndpoint, {"spec.workload": "x"}) == []


def test_the_server_sends_a_watch_only_what_it_selects(kubernetes: Store, late: KubernetesStore) -> None:
    watch = late.watch(NetworkEndpoint, {"spec.host": "host-1"})
    seen: list[str] = []
    take: Callable[[Any], bool] = watch._take

    def counting(event: Any) -> bool:
        if event["type"] != "BOOKMARK":
            seen.append(event["object"]["metadata"]["name"])
        return take(event)

    watch._take = counting  # type: ignore[method-assign]
    watch.poll()
    for number in range(2, 12):
        kubernetes.create(
            NetworkEndpoint(
                name=f"1000-10.0.0.{number}",
                spec=NetworkEndpointSpec(
                    vpc="v", subnet="s", address=f"10.0.0.{number}", host=f"host-{number % 5}", container_id=f"{number}"
                ),
            )
        )
    view = View(watch)
    view.until(lambda: len(view.objects) == 2)
    assert seen == ["1000-10.0.0.6", "1000-10.0.0.11"]
