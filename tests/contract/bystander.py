"""A store whose watches belong to another process than its verbs, as far as the API server can tell.

A watch of the same store knows its own writes at once; this one has only what the server tells. Each poll first waits
until the watch knows what is there now, so that tests may say what is *not* to come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from node_agent.store.base import Event, Store, Where
from node_agent.store.kubernetes import KubernetesStore
from node_agent.store.kubernetes_watch import KubernetesWatch

PATIENCE = 20.0


class Bystander:
    """`writer` for all verbs but `watch`, which is `reader`'s. Both are closed together."""

    def __init__(self, writer: Store, reader: KubernetesStore) -> None:
        self._writer, self._reader = writer, reader

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._writer, verb)

    def watch(self, cls: Any, where: Where | None = None, wake: Callable[[], None] | None = None) -> BystanderWatch:
        return BystanderWatch(self._writer, self._reader.watch(cls, where, wake), cls, where)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class BystanderWatch:
    def __init__(self, truth: Store, watch: KubernetesWatch, cls: Any, where: Where | None) -> None:
        self._truth, self._watch, self._what = truth, watch, (cls, where)
        self._begun = False

    def poll(self, timeout: float = 0.0) -> Sequence[Event]:
        if self._begun:
            self._settle()
        self._begun = True
        return self._watch.poll(timeout)

    @property
    def fresh_at(self) -> float:
        return self._watch.fresh_at

    def close(self) -> None:
        self._watch.close()
        self._begun = False

    def _settle(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            wanted = {obj.name: obj for obj in self._truth.list(*self._what)}
            if self._watch.known() == wanted:
                return
            assert time.monotonic() < deadline, f"the watch knows {self._watch.known()} instead of {wanted}"
            time.sleep(0.01)
