"""The API server itself on the manifests: what it takes, whom it lets do what, and what it refuses in which words."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.render.access import AGENT, CONTROLLER
from infra.render.manifests import manifests
from node_agent.controller.log import Log
from node_agent.controller.loop import Controller
from node_agent.controller.nodes import GRACE, HostKeeper
from node_agent.model.config import ControllerConfig
from node_agent.model.errors import AlreadyExists, Permanent
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
    VpcStatus,
)
from node_agent.model.users import ENDPOINT_FINALIZER, guarded
from node_agent.store.base import Store
from node_agent.store.kubernetes_nodes import Nodes
from node_agent.store.open import open_api, open_store
from tests.contract.accounts import (
    ADDRESSES,
    HERE,
    PATIENCE,
    THERE,
    WANTED,
    administrator,
    apply,
    kubectl,
    node,
    ruled,
    url,
)
from tests.contract.apiserver import ApiServer
from tests.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ruled() as found:
        yield found


Opener = Callable[..., str]


@pytest.fixture
def admin(server: ApiServer) -> Iterator[Store]:
    """Somebody who may do everything, once the policies are in force."""

    def ruled_out(store: Store) -> bool:
        return refused(lambda: store.create(Vpc(name="bare", spec=VpcSpec(cidr="10.9.0.0/16"))))

    with administrator(server, ruled_out) as store:
        yield store


@pytest.fixture
def url_of(server: ApiServer, admin: Store, tmp_path: Path) -> Opener:
    """The store's URL for an account, with the token of a pod."""

    def make(account: str, of_pod: str = "") -> str:
        return url(server, tmp_path, account, of_pod)

    return make


@pytest.fixture
def agent(url_of: Opener) -> Iterator[Store]:
    """The agent of HERE."""
    store = open_store(url_of(AGENT, f"agent-{HERE}"))
    yield store
    store.close()


def refused(write: Callable[[], object]) -> bool:
    try:
        write()
    except AlreadyExists:
        return False
    except Permanent:
        return True
    return False


def endpoint(on: str, last: int = 2) -> NetworkEndpoint:
    address = f"10.0.1.{last}"
    spec = NetworkEndpointSpec(vpc="blue", subnet="web", address=address, host=on, container_id=f"c{last}")
    return guarded(NetworkEndpoint(name=f"1-{address}", spec=spec))


def held(on: str, **more: str) -> NetworkEndpointStatus:
    return NetworkEndpointStatus(host=on, host_address=ADDRESSES[on], **more)


def blue(store: Store) -> None:
    store.create(guarded(Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"))))
    store.create(guarded(Subnet(name="web", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/24"))))


def test_they_apply_without_a_warning_and_a_second_time_changes_nothing(server: ApiServer) -> None:
    def versions() -> dict[str, str]:
        found = json.loads(kubectl(server, "get", "-o=json", "-f-", stdin=text))["items"]
        return {f"{each['kind']} {each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in found}

    text = "\n---\n".join(json.dumps(each) for each in manifests(WANTED))
    before = versions()
    said = apply(server)
    assert "arning" not in said
    assert len(said.splitlines()) == len(manifests(WANTED)) == len(before)
    assert versions() == before


def test_an_agent_does_all_that_agents_do(admin: Store, agent: Store) -> None:
    blue(admin)
    admin.create(NetworkHost(name=HERE, spec=NetworkHostSpec(address=ADDRESSES[HERE])))
    agent.put_status(NetworkHost, HERE, NetworkHostStatus(heartbeat=1.0, ready=True))
    watch = agent.watch(NetworkEndpoint, {"spec.host": HERE})
    assert not watch.poll()
    made = agent.create(endpoint(HERE))
    agent.put_status(NetworkEndpoint, made.name, held(HERE), uid=made.meta.uid)
    assert [each.name for each in agent.list(NetworkEndpoint, {"spec.subnet": "web"})] == [made.name]
    assert watch.poll(5.0)
    watch.close()
    agent.delete(NetworkEndpoint, made.name, uid=made.meta.uid)
    agent.drop_finalizer(NetworkEndpoint, made.name, ENDPOINT_FINALIZER, uid=made.meta.uid)
    assert not agent.list(NetworkEndpoint)


def test_a_stolen_agent_token_cannot_write_another_hosts_objects(admin: Store, agent: Store) -> None:
    blue(admin)
    admin.create(NetworkHost(name=THERE, spec=NetworkHostSpec(address=ADDRESSES[THERE])))
    theirs = admin.create(endpoint(THERE, 3))
    admin.put_status(NetworkEndpoint, theirs.name, held(THERE))
    own = agent.create(endpoint(HERE, 4))
    speaks = f"this agent speaks for host '{HERE}': "
    for write, why in (
        (
            lambda: agent.put_status(NetworkHost, THERE, NetworkHostStatus(heartbeat=5.0)),
            f"it may not write host {THERE}",
        ),
        (lambda: agent.create(endpoint(THERE, 5)), f"it may not make an endpoint on host {THERE}"),
        (lambda: agent.put_status(NetworkEndpoint, theirs.name, held(HERE)), "is not its own"),
        (lambda: agent.delete(NetworkEndpoint, theirs.name), "is not its own"),
        (lambda: agent.drop_finalizer(NetworkEndpoint, theirs.name, ENDPOINT_FINALIZER), "is not its own"),
        (lambda: agent.put_status(NetworkEndpoint, own.name, held(THERE)), f"it may not say that host {THERE} holds"),
        (
            lambda: agent.put_status(
                NetworkEndpoint, own.name, held(HERE, next_host=THERE, next_address="198.18.0.12")
            ),
            f"it may not say that host {THERE} takes",
        ),
        (
            lambda: agent.put_status(NetworkEndpoint, own.name, held(HERE, previous_host=THERE)),
            f"host {THERE} never held",
        ),
        (
            lambda: agent.put_spec(NetworkEndpoint, own.name, replace(own.spec, host=THERE)),
            f"it may not change what endpoint {own.name} is to be",
        ),
    ):
        try:
            write()
        except Permanent as error:
            assert speaks in str(error) and why in str(error)
        else:
            pytest.fail(f"taken: {why}")
    left = admin.get(NetworkEndpoint, theirs.name)
    assert (left.status, left.meta.deleting, left.meta.finalizers) == (held(THERE), False, (ENDPOINT_FINALIZER,))


def test_a_token_of_no_pod_writes_nothing(url_of: Opener) -> None:
    store = open_store(url_of(AGENT))
    try:
        with pytest.raises(Permanent, match="must be bound to a pod on a node"):
            store.create(endpoint(HERE))
    finally:
        store.close()


def test_an_agent_makes_no_hosts_and_decides_nothing(admin: Store, agent: Store) -> None:
    blue(admin)
    for write in (
        lambda: agent.create(NetworkHost(name=HERE, spec=NetworkHostSpec(address="198.18.0.99"))),
        lambda: agent.put_status(Vpc, "blue", VpcStatus(vni=7)),
        lambda: agent.delete(Subnet, "web"),
    ):
        with pytest.raises(Permanent, match="cannot"):
            write()


def test_an_endpoint_moves_by_the_words_of_both_hosts(admin: Store, agent: Store, url_of: Opener) -> None:
    other = open_store(url_of(AGENT, f"agent-{THERE}"))
    try:
        made = agent.create(endpoint(HERE))
        agent.put_status(NetworkEndpoint, made.name, held(HERE))
        with pytest.raises(Permanent):
            other.put_status(NetworkEndpoint, made.name, held(THERE, previous_host=HERE))
        admin.put_spec(NetworkEndpoint, made.name, replace(made.spec, host=THERE))
        coming = {"next_host": THERE, "next_address": ADDRESSES[THERE]}
        other.put_status(NetworkEndpoint, made.name, held(HERE, **coming))
        other.put_status(NetworkEndpoint, made.name, held(THERE, previous_host=HERE))
        with pytest.raises(Permanent, match="holds"):
            agent.put_status(NetworkEndpoint, made.name, held(HERE))
        with pytest.raises(Permanent, match="is not its own"):
            agent.delete(NetworkEndpoint, made.name)
        agent.put_status(NetworkEndpoint, made.name, held(THERE))
        with pytest.raises(Permanent, match="is not its own"):
            agent.put_status(NetworkEndpoint, made.name, held(THERE, previous_host=HERE))
    finally:
        other.close()


@pytest.fixture
def turned(url_of: Opener) -> Iterator[Callable[[], None]]:
    """The controller's loop, as its own account."""
    store = open_store(url_of(CONTROLLER))
    with Path("/dev/null").open("w") as nowhere:
        log = Log(nowhere)
        controller = Controller(ControllerConfig(stack_id="contract", store="kubernetes:"), store, time.time, log)
        yield controller.turn
        controller.close()
        store.close()


def test_what_is_in_use_is_not_deleted_and_the_refusal_names_its_users(
    admin: Store, agent: Store, turned: Callable[[], None]
) -> None:
    blue(admin)
    made = agent.create(endpoint(HERE))

    def known(name: str) -> Callable[[], bool]:
        def look() -> bool:
            turned()
            return name in str(admin.get(Subnet, "web").status.conditions)

        return look

    until(known(made.name), PATIENCE, "the controller says who uses the subnet")
    with pytest.raises(Permanent, match=f"Subnet web is used by NetworkEndpoint {made.name}"):
        admin.delete(Subnet, "web")
    with pytest.raises(Permanent, match="Vpc blue is used by Subnet web, NetworkEndpoint"):
        admin.delete(Vpc, "blue")
    assert not admin.get(Vpc, "blue").meta.deleting

    agent.delete(NetworkEndpoint, made.name)
    agent.drop_finalizer(NetworkEndpoint, made.name, ENDPOINT_FINALIZER)

    def gone(kind: type[Any], name: str) -> Callable[[], bool]:
        def look() -> bool:
            turned()
            with contextlib.suppress(Permanent):  # not known to be free yet
                admin.delete(kind, name)
            return not admin.list(kind)

        return look

    until(gone(Subnet, "web"), PATIENCE, "the unused subnet is gone")
    until(gone(Vpc, "blue"), PATIENCE, "the unused VPC is gone")


def test_one_that_got_a_user_in_the_moment_of_its_delete_stays_until_that_is_gone(
    admin: Store, agent: Store, turned: Callable[[], None]
) -> None:
    blue(admin)
    made = agent.create(endpoint(HERE))
    admin.delete(Subnet, "web")  # nobody has said yet that it is used
    for _ in range(3):
        turned()
    assert admin.get(Subnet, "web").meta.deleting
    agent.delete(NetworkEndpoint, made.name)
    agent.drop_finalizer(NetworkEndpoint, made.name, ENDPOINT_FINALIZER)

    def gone() -> bool:
        turned()
        return not admin.list(Subnet)

    until(gone, PATIENCE, "the subnet is gone")


@pytest.mark.parametrize(
    "made",
    [Vpc(name="v", spec=VpcSpec(cidr="10.0.0.0/16")), Subnet(name="s", spec=SubnetSpec(vpc="v", cidr="10.0.0.0/24"))],
)
def test_without_its_finalizer_none_is_made(admin: Store, made: Vpc | Subnet) -> None:
    with pytest.raises(Permanent, match=f"metadata.finalizers must hold mizar.com/{made.kind.lower()}"):
        admin.create(made)
    admin.create(guarded(made))


def test_hosts_follow_their_nodes(server: ApiServer, admin: Store, agent: Store, url_of: Opener) -> None:
    url, now = url_of(CONTROLLER), [0.0]
    api, store = open_api(url), open_store(url)
    assert api is not None
    nodes = Nodes(api)
    nodes.start()
    with Path("/dev/null").open("w") as nowhere, server.api() as root:
        keeper = HostKeeper(nodes, store, lambda: now[0], Log(nowhere))

        def hosts() -> dict[str, NetworkHostSpec]:
            now[0] += 1.0
            keeper.turn()
            return {host.name: host.spec for host in admin.list(NetworkHost)}

        try:
            until(lambda: hosts().keys() == ADDRESSES.keys(), PATIENCE, "a host per node")
            assert hosts() == {name: NetworkHostSpec(address=found, zone="z") for name, found in ADDRESSES.items()}
            node(root, "node-3", "198.18.0.13")
            until(lambda: "node-3" in hosts(), PATIENCE, "the host of a new node")
            admin.create(endpoint("node-3", 9))
            root.ask("remove node", "DELETE", "/api/v1/nodes/node-3")
            until(lambda: "node-3" not in (nodes.nodes() or {}), PATIENCE, "the node is seen to be gone")
            assert "node-3" in hosts(), "a node that comes back finds its host"
            now[0] += GRACE
            assert "node-3" not in hosts()
            assert [each.meta.deleting for each in admin.list(NetworkEndpoint)] == [True]
        finally:
            keeper.close()
            store.close()
