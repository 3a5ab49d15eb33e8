"""The error tree.

    MizarError
    |- Temporary      worth repeating; `delay` seconds from now
    |- Permanent      repeating does not help: wrong input, a refused kernel feature
    |  `- Invalid     wrong input; carries every mistake found, not only the first
    `- StoreError     what a store answers
       |- NotFound
       |- AlreadyExists
       `- Conflict    the object changed since it was read (resource version, uid)

Messages read "verb object: cause".  Loops know only Temporary and Permanent.
"""

from __future__ import annotations

from collections.abc import Iterable


class MizarError(Exception):
    """Root of all errors raised on purpose."""


class Temporary(MizarError):
    """The operation may succeed when repeated after `delay` seconds."""

    def __init__(self, message: str, delay: float = 1.0) -> None:
        super().__init__(message)
        self.delay = delay


class Permanent(MizarError):
    """Repeating the operation unchanged cannot succeed."""


class Invalid(Permanent):
    """Wrong input. `mistakes` holds one sentence per mistake: field, value, rule."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class StoreError(MizarError):
    """A store refused an operation."""


class NotFound(StoreError):
    """No object of that kind and name."""


class AlreadyExists(StoreError):
    """Creation is the claim, and somebody else holds it."""


class Conflict(StoreError):
    """The object is not the one that was read."""
