"""What is wrong with a resource's inputs, and sentences about what the cluster says of it. Called by `server`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pulumi.runtime.proto import provider_pb2

from tools.providers.kubernetes import objects
from tools.providers.kubernetes.cluster import Refused
from tools.providers.kubernetes.compare import ADDED, REMOVED, Change
from tools.providers.kubernetes.objects import Object, annotation
from tools.providers.kubernetes.values import Path, at, covered, is_unknown, text_of

NAMING_OFF = provider_pb2.CheckRequest.AutonamingOptions.Mode.DISABLE
SERVED_SECONDS = 10.0
_MOST_TEXT = 60
_LEFT_OUT = ("kubernetes:helm.sh/", "kubernetes:yaml", "kubernetes:kustomize", "kubernetes:index:")
T = TypeVar("T")
Mistake = tuple[str, str]


def mistakes(token: str, news: Object, left_out: str) -> list[Mistake]:
    """(property, reason) of everything that can be seen without a cluster."""
    if token.startswith(_LEFT_OUT) or token.endswith("Patch") or token.endswith("List"):
        return [("", f"{token} {left_out}")]
    found = [
        (name, f"it must be a string such as {example!r}, not {news.get(name)!r}")
        for name, example in (("apiVersion", "apps/v1"), ("kind", "Deployment"))
        if not isinstance(news.get(name), str) or not news[name]
    ]
    metadata = news.setdefault("metadata", {})
    if is_unknown(metadata):
        return found
    if metadata.get("generateName"):
        found.append(("metadata.generateName", "server-side apply needs a name; leave both out for a generated one"))
    seconds = annotation(news, objects.TIMEOUT)
    if seconds and not is_unknown(seconds) and not (seconds.isdecimal() and int(seconds) > 0):
        found.append((f'metadata.annotations["{objects.TIMEOUT}"]', f"{seconds!r} is no number of seconds"))
    policy = annotation(news, objects.PROPAGATION)
    if policy and not is_unknown(policy) and policy.lower() not in objects.PROPAGATIONS:
        allowed = ", ".join(objects.PROPAGATIONS)
        found.append((f'metadata.annotations["{objects.PROPAGATION}"]', f"{policy!r} is none of {allowed}"))
    return found


def not_served(news: Object) -> list[Mistake]:
    """A kind that the cluster does not have: a mistake, unless a CRD of the same program may bring it."""
    version, kind = news["apiVersion"], news["kind"]
    if not objects.is_builtin(objects.group_of(version)):
        return []
    return [("kind", f"the cluster serves no kind {kind!r} of apiVersion {version!r}")]


def patiently(ask: Callable[[], T | None], cancelled: threading.Event) -> T | None:
    """An answer other than None, waited for a little."""
    deadline = time.monotonic() + SERVED_SECONDS
    while (found := ask()) is None and time.monotonic() < deadline and not cancelled.wait(0.25):
        pass
    return found


def conflicts(refused: Refused) -> str:
    """The other managers and their fields, in one sentence."""
    return ", ".join(f"{cause.get('field')}: {cause.get('message')}" for cause in refused.conflicts)


def applied_by(live: Object, manager: str) -> bool:
    """We made it: in a run that ended before it could say so."""
    entries = at(live, ("metadata", "managedFields")) or ()
    return any(each.get("manager") == manager and each.get("operation") == "Apply" for each in entries)


def same(live: Object, state: Object) -> bool:
    """The live object is the one that the state knows."""
    uid = at(state, ("metadata", "uid"))
    return uid is None or is_unknown(uid) or uid == at(live, ("metadata", "uid"))


def drift(found: Iterable[Change], secrets: Iterable[Path]) -> list[str]:
    """A sentence per change of which the program knows nothing. No values of secrets."""
    told, hidden = [], list(secrets)
    for each in found:
        place = text_of(each.path)
        if covered(each.path, hidden):
            told.append(place)
        elif each.kind == ADDED:
            told.append(f"{place} is gone, {_short(each.new)} is wanted")
        elif each.kind == REMOVED:
            told.append(f"{place} is {_short(each.old)}, and is not wanted")
        else:
            told.append(f"{place} is {_short(each.old)}, {_short(each.new)} is wanted")
    return told


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
