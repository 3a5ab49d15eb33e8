"""Objects of a stack's store, as the providers handle them. No resource of its own; called by its neighbours only.

The store is a file of the stack, or, for those who hand over the text of a `kubeconfig`, in that cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from infra.providers import daemons
from infra.providers.base import wait
from node_agent.model.errors import AlreadyExists, NotFound, Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkHost, NetworkService, Object, Subnet, Vpc
from node_agent.model.places import StackPlaces
from node_agent.model.users import guarded, users_of
from node_agent.store.base import Store, Where
from node_agent.store.open import open_cluster, open_store

T = TypeVar("T", bound=Object)

GONE_SECONDS = 15.0  # patience with those who hold a finalizer
SILENT_SECONDS = 15.0  # for which a cluster that did not answer is not looked at again
_silent: dict[str, tuple[float, str]] = {}
"""Kubeconfig -> (until when, why). Of one run: the engine starts this process anew for each."""


def url(stack: str) -> str:
    return f"sqlite:{StackPlaces(stack).store}"


@contextlib.contextmanager
def opened(stack: str, kubeconfig: str = "") -> Iterator[Store]:
    """The stack's store, closed afterwards. Raises Temporary when there is none."""
    store = open_cluster(kubeconfig) if kubeconfig else open_store(url(stack), create=False)
    try:
        yield store
    finally:
        store.close()


def present(stack: str, kubeconfig: str = "") -> bool:
    """Whether the stack has a store; a read must not make one."""
    return bool(kubeconfig) or StackPlaces(stack).store.exists()


def find(stack: str, cls: type[T], name: str, kubeconfig: str = "") -> T | None:
    """The object, None when it or its store is absent. Raises Temporary at once for a cluster that just did not answer
    another: a preview has many waves of these."""
    if not present(stack, kubeconfig):
        return None
    until, why = _silent.get(kubeconfig, (0.0, ""))
    if time.monotonic() < until:
        raise Temporary(f"get {cls.kind} {name}: {why}")
    try:
        with opened(stack, kubeconfig) as store:
            return store.get(cls, name)
    except NotFound:
        return None
    except Temporary as error:
        if kubeconfig:
            _silent[kubeconfig] = (time.monotonic() + SILENT_SECONDS, str(error))
        raise


def listed(stack: str, cls: type[T], where: Where | None = None, kubeconfig: str = "") -> Sequence[T]:
    """Objects of one kind; none when there is no store."""
    if not present(stack, kubeconfig):
        return ()
    with opened(stack, kubeconfig) as store:
        return store.list(cls, where)


def left(stack: str, cls: type[T], where: Where, kubeconfig: str = "") -> Sequence[T]:
    """What a run that was killed had begun to make in a network which is now removed: what Pulumi knew is gone by then.
    In a cluster nothing is taken for that: whoever made it there uses the network, and `drop` names them."""
    return () if kubeconfig else listed(stack, cls, where)


def unattended(stack: str, kubeconfig: str = "") -> bool:
    """Whether no controller is there to lift finalizers: that of a cluster is the cluster's affair."""
    return not kubeconfig and daemons.controller(stack) is None


def constant(kubeconfig: str) -> bool:
    """Whether a network's prefix and VPC stay what they were made: a cluster's API server refuses another."""
    return bool(kubeconfig)


def put(store: Store, cls: type[T], name: str, spec: Any) -> T:
    """The object with this spec: created, guarded against a removal while it is used, or its spec replaced.

    Raises Temporary while an earlier object of this name is still being removed.
    """
    try:
        return store.create(guarded(cls(name=name, spec=spec)))
    except AlreadyExists:
        made = store.put_spec(cls, name, spec)
    if made.meta.deleting:
        raise Temporary(f"make {cls.kind} {name}: an earlier one is still being removed")
    return made


def move(stack: str, name: str, host: str) -> None:
    """The endpoint of this object is wanted on another host, whose agent takes it over at its ADD."""
    with opened(stack) as store:
        held = store.get(NetworkEndpoint, name)
        store.put_spec(
            NetworkEndpoint, name, replace(held.spec, host=host), resource_version=held.meta.resource_version
        )


def drain(store: Store, staying: Collection[str]) -> None:
    """Ask every host but those staying to hand over its places in VPC sets. A host that comes back into the plan is
    asked no more, by its own resource, which writes its whole spec."""
    for host in store.list(NetworkHost):
        if host.name not in staying and not host.spec.drain:
            with contextlib.suppress(NotFound):
                store.put_spec(NetworkHost, host.name, replace(host.spec, drain=True))


def drop(stack: str, cls: type[T], name: str, *, kubeconfig: str = "", force: bool = False) -> None:
    """Delete the object and wait until it is gone; absent is success.

    `force` lifts the finalizers of those who cannot do it themselves any more: the agent of a host that is gone, a
    controller that does not run. Raises Permanent naming those who still use it; a VPC or subnet in use is left as it
    is. (Who begins to use it in that moment is held by its finalizer, and named after GONE_SECONDS.)
    """
    if not present(stack, kubeconfig):
        return
    with opened(stack, kubeconfig) as store:
        users = _users(store, cls, name) if cls in (Vpc, Subnet) else ()
        if users:
            raise Permanent(f"delete {cls.kind} {name}: in use by {', '.join(users)}")
        store.delete(cls, name)

        def gone() -> bool | None:
            try:
                left = store.get(cls, name)
            except NotFound:
                return True
            if force:
                for finalizer in left.meta.finalizers:
                    store.drop_finalizer(cls, name, finalizer, uid=left.meta.uid)
            return None

        try:
            wait(GONE_SECONDS, gone, lambda: f"delete {cls.kind} {name}: still held after {GONE_SECONDS:g} s")
        except Temporary as error:
            users = _users(store, cls, name)
            raise Permanent(f"{error}; in use by {', '.join(users)}" if users else str(error)) from None


def _users(store: Store, cls: type[T], name: str) -> tuple[str, ...]:
    kinds = (Subnet, NetworkEndpoint, NetworkService)
    try:
        return users_of(store.get(cls, name), [other for kind in kinds for other in store.list(kind)])
    except NotFound:
        return ()
