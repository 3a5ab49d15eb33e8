"""What all dynamic providers of stack `local` share: Pulumi's verbs, built from three of our own.

    observe(props)   what is really there, as outputs; None when it is gone. Reads only.
    ensure(props)    make it so and return the outputs; adopts what a killed run left, changes nothing that is right
    remove(props)    absent is success

A provider states its inputs as a frozen dataclass, `props`, and names those that make another thing of it: `identity`.
`diff` looks at the world as well as at the inputs, so every `up` repairs what was broken by hand, without a refresh,
and `preview` shows it. Why, and what that means for the health gate: docs/adr/0004-health-gate.md.

Instances hold nothing: state refers to a provider by its module path alone, so these modules must never move.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from pulumi import Output, ResourceOptions
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from node_agent.model.errors import MizarError, Temporary

P = TypeVar("P")
T = TypeVar("T")
Outputs = Mapping[str, Any]

POLL = 0.05  # seconds between two looks of `wait`


def _told(verb: Callable[..., T]) -> Callable[..., T]:
    """Our errors without their inner frames: the SDK prints every frame above the sentence that a person needs."""

    @functools.wraps(verb)
    def call(*args: Any) -> T:
        try:
            return verb(*args)
        except MizarError as error:
            message = str(error)
        raise RuntimeError(message)

    return call


class Provider(ResourceProvider, Generic[P]):
    """CRUD from observe, ensure and remove."""

    serialize_as_secret_always = False
    props: ClassVar[type[Any]]
    identity: ClassVar[tuple[str, ...]] = ("stack", "name")
    # Inputs that say nothing about the thing: they never count as a difference. None that leads to it is among them:
    # a refresh and a delete are handed the inputs of the last change, and would be led there by one that has ended.
    silent: ClassVar[tuple[str, ...]] = ()
    # Inputs that say nothing about the thing and are shown to nobody: about this run only.
    hidden: ClassVar[tuple[str, ...]] = ()

    def fixed(self, props: P) -> tuple[str, ...]:
        """Inputs that cannot change where this thing is: another value is another thing of the same id."""
        return ()

    def observe(self, props: P) -> Outputs | None:
        raise NotImplementedError

    def ensure(self, props: P, had: P | None) -> Outputs:
        """`had`: the inputs of the last run, None on a create."""
        raise NotImplementedError

    def remove(self, props: P) -> None:
        raise NotImplementedError

    def sound(self, observed: Outputs) -> bool:
        """Whether what is there works. Not the same as unchanged: a refresh writes damage into the outputs."""
        return True

    def drift(self, props: P, news: P, outputs: Outputs) -> bool:
        """Whether the world needs `ensure`, or the outputs of the last run are not true now. Called by `diff`, also
        at preview. What cannot be looked at now, its store being in a cluster that is down, is left to `ensure`."""
        try:
            observed = self.observe(props)
        except Temporary:
            return True
        if observed is None or not self.sound(observed):
            return True
        return any(observed[key] != outputs.get(key) for key in observed)

    @_told
    def create(self, props: dict[str, Any]) -> CreateResult:
        wanted = self._props(props)
        return CreateResult(self._id(wanted), {**props, **self.ensure(wanted, None)})

    @_told
    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        observed = self.observe(self._props(props))
        return ReadResult("", {}) if observed is None else ReadResult(id_, {**props, **observed})

    @_told
    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        keys = [field.name for field in dataclasses.fields(self.props)]
        keys = [key for key in keys if key not in (*self.silent, *self.hidden)]
        changed = [key for key in keys if _olds.get(key) != _news.get(key)]
        olds = self._props(_olds)
        replaces = [key for key in changed if key in (*self.identity, *self.fixed(olds))]
        changes = bool(changed) or self.drift(olds, self._props(_news), _olds)
        return DiffResult(changes=changes, replaces=replaces, delete_before_replace=True)

    @_told
    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult({**_news, **self.ensure(self._props(_news), self._props(_olds))})

    @_told
    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        self.remove(self._props(_props))

    def _props(self, raw: Mapping[str, Any]) -> P:
        # Numbers come from the engine as floats; a field that an older version did not know has its default.
        fields = [field.name for field in dataclasses.fields(self.props)]
        named = {_hiding(key) if key in self.hidden else key: key for key in fields}
        plain = {named[key]: _whole(value) for key, value in raw.items() if key in named}
        return cast(P, self.props(**plain))

    def _id(self, props: P) -> str:
        return "/".join(str(getattr(props, key)) for key in self.identity if hasattr(props, key))


class Made(Resource):
    """A resource of one of our providers: inputs from a Props dataclass, and a place for every other output."""

    def __init__(
        self, provider: Provider[Any], name: str, props: Any, outputs: tuple[str, ...], opts: ResourceOptions | None
    ) -> None:
        # The SDK sets an attribute per given property: an output that is no input needs a place here.
        inputs = {
            _hiding(key) if key in provider.hidden else key: list(value) if isinstance(value, tuple) else value
            for key, value in _inputs(props).items()
        }
        super().__init__(provider, name, {**inputs, **dict.fromkeys(outputs)}, opts)


def _inputs(props: Any) -> dict[str, Any]:
    """The fields as plain values; one that is another resource's output stays what it is."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(props):
        value = getattr(props, field.name)
        if isinstance(value, Output):
            plain[field.name] = value
        else:
            plain[field.name] = dataclasses.asdict(_One(value))["value"]
    return plain


@dataclasses.dataclass(frozen=True)
class _One:
    value: Any


def _hiding(key: str) -> str:
    """The engine's displays leave out properties with two underscores in front."""
    return f"__{key}"


def wait(seconds: float, look: Callable[[], T | None], what: Callable[[], str]) -> T:
    """What `look` returns, once it is not None. Raises Temporary with `what()` when that takes too long."""
    until = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > until:
            raise Temporary(what())
        time.sleep(POLL)
    return found


def prefer(seconds: float, look: Callable[[], T | None], otherwise: T) -> T:
    """What `look` returns, once it is not None; `otherwise` when that takes too long."""
    try:
        return wait(seconds, look, str)
    except Temporary:
        return otherwise


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return tuple(_whole(item) for item in value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value
