"""How long the parts of one request took, for the log: who wonders why a pod was slow finds it there, and so does
`bench.cni`. Called by `plugin` and `endpoints`."""

from __future__ import annotations

from collections.abc import Callable


class Stages:
    """Of one request, from now on; one thread at a time. `monotonic`: seconds; `since`: when the first part began."""

    def __init__(self, monotonic: Callable[[], float], since: float | None = None) -> None:
        self._monotonic = monotonic
        self._last = monotonic() if since is None else since
        self._took: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """The part of this name ends now; the next begins."""
        now = self._monotonic()
        self._took[name] = self._took.get(name, 0.0) + now - self._last
        self._last = now

    def told(self) -> dict[str, float]:
        """Part -> milliseconds."""
        return {name: round(1000 * took, 2) for name, took in self._took.items()}
