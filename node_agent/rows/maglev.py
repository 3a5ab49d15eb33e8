"""Which backend a slot of a service's table belongs to: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4). Pure.

Called by `rows.services`. Every member of a VPC set makes the same table of the same backends, in whatever order it
learned of them: so a flow gets the same backend wherever it asks. Every backend gets as many slots as any other, or one
less; when one comes or goes, few slots change hands beside those it takes or leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def table(backends: Iterable[str], size: int) -> tuple[str, ...]:
    """Slot -> backend; empty without backends. `size`: a prime, many times their number (beyond it some get none).

    Each backend in its turn takes the first free slot of a permutation of its own.
    """
    names = sorted(set(backends))
    walks = [_permutation(name, size) for name in names]
    slots: dict[int, str] = {}
    for turn in range(size if names else 0):
        at = turn % len(names)
        slot, step = walks[at]
        while slot in slots:
            slot = (slot + step) % size
        slots[slot] = names[at]
        walks[at] = (slot + step) % size, step
    return tuple(slots[slot] for slot in sorted(slots))


def _permutation(name: str, size: int) -> tuple[int, int]:
    """(first slot, step): goes through every slot once, as `size` is a prime."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % size, int.from_bytes(digest[8:16], "big") % (size - 1) + 1
