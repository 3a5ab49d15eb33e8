"""The answer to the engine's Diff. Pure; called by `server`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pulumi.runtime.proto import provider_pb2

from tools.providers.kubernetes.compare import ADDED, REMOVED, Change
from tools.providers.kubernetes.objects import AUTONAMED, Object, id_of, is_set
from tools.providers.kubernetes.values import Path, text_of

_KINDS = {
    (ADDED, False): provider_pb2.PropertyDiff.ADD,
    (ADDED, True): provider_pb2.PropertyDiff.ADD_REPLACE,
    (REMOVED, False): provider_pb2.PropertyDiff.DELETE,
    (REMOVED, True): provider_pb2.PropertyDiff.DELETE_REPLACE,
}


def answer(found: Iterable[Change], replaces: Iterable[Path], olds: Object, news: Object) -> Any:
    """`replaces`: paths that need another object; they need not be in `found`."""
    found, replaces = list(found), list(replaces)
    detailed = {}
    for each in found:
        again = any(each.path[: len(path)] == path for path in replaces)
        usual = provider_pb2.PropertyDiff.UPDATE_REPLACE if again else provider_pb2.PropertyDiff.UPDATE
        detailed[text_of(each.path)] = provider_pb2.PropertyDiff(kind=_KINDS.get((each.kind, again), usual))
    for path in replaces:
        if not any(each.path[: len(path)] == path for each in found):
            detailed[text_of(path)] = provider_pb2.PropertyDiff(kind=provider_pb2.PropertyDiff.UPDATE_REPLACE)
    some = provider_pb2.DiffResponse.DIFF_SOME if detailed else provider_pb2.DiffResponse.DIFF_NONE
    return provider_pb2.DiffResponse(
        changes=some,
        replaces=[text_of(path) for path in replaces],
        # Two objects of one name cannot be; a generated name is another one for the new object.
        deleteBeforeReplace=bool(replaces) and not is_set(news, AUTONAMED) and id_of(olds) == id_of(news),
        diffs=sorted({str(each.path[0]) for each in found} | {str(path[0]) for path in replaces}),
        detailedDiff=detailed,
        hasDetailedDiff=True,
    )
