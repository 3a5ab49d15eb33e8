"""The contract of a store, the same for SQLite and Kubernetes; tests/contract holds both to it.

Called by the agent, the controller, the CLI and the Pulumi providers; nobody else keeps desired state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from node_agent.model.objects import Object

T = TypeVar("T", bound=Object)

# Fields an object can be selected by: dotted paths below the object, e.g. {"spec.host": "host-1"}.
Where = Mapping[str, str]


@dataclass(frozen=True)
class Event:
    """`put` carries the object as it is now; `gone` the object as it last was.

    An object that stops matching a watch's selector is `gone` for that watch.  Changes between two polls are merged:
    delete + create of one name arrives as one `put` with another uid.
    """

    type: Literal["put", "gone"]
    object: Object


class Watch(Protocol):
    """A selected, resumable, level-triggered view of one kind."""

    def poll(self, timeout: float = 0.0) -> Sequence[Event]:
        """Changes since the last poll; waits up to `timeout` seconds for the first. The first poll yields a `put` for
        every object that exists and matches."""
        ...

    @property
    def fresh_at(self) -> float:
        """time.monotonic() of the last moment the view was known to be current."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """All verbs raise errors of node_agent.model.errors; none leaves a half-written object."""

    def create(self, obj: T) -> T:
        """Store a new object (its spec and finalizers; status starts empty unless given). Raises AlreadyExists."""
        ...

    def get(self, cls: type[T], name: str) -> T:
        """Raises NotFound."""
        ...

    def list(self, cls: type[T], where: Where | None = None) -> Sequence[T]:
        """Objects of one kind, by name."""
        ...

    def put_spec(self, cls: type[T], name: str, spec: Any, *, resource_version: int | None = None) -> T:
        """Replace the spec; an equal spec is no write. Raises NotFound, Conflict (another resource version)."""
        ...

    def put_status(
        self, cls: type[T], name: str, status: Any, *, uid: str | None = None, resource_version: int | None = None
    ) -> T:
        """Replace the status; an equal status is no write. Raises NotFound, Conflict."""
        ...

    def delete(self, cls: type[T], name: str, *, uid: str | None = None) -> None:
        """Remove, or mark as deleting while finalizers stand. Absent: nothing to do. Raises Conflict on another uid."""
        ...

    def drop_finalizer(self, cls: type[T], name: str, finalizer: str, *, uid: str | None = None) -> None:
        """Lift one finalizer; the last one lifted removes a deleting object. Absent: nothing to do."""
        ...

    def watch(self, cls: type[T], where: Where | None = None, wake: Callable[[], None] | None = None) -> Watch:
        """`wake`: called, by any thread and more often than need be, when a poll may have news, by stores that hear of
        changes by themselves. It must not wait. Others never call it, and have to be polled."""
        ...

    def close(self) -> None: ...
