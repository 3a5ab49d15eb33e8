"""How many rounds a soak test goes, and its random numbers. Used by the tests of this folder.

    MIZAR_SOAK_ROUNDS=3 MIZAR_SOAK_SEED=7 make soak

The seed is printed, so that a failure can be tried again with the same choices.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator


def count(usual: int) -> int:
    return int(os.environ.get("MIZAR_SOAK_ROUNDS", usual))


def dice() -> random.Random:
    seed = int(os.environ.get("MIZAR_SOAK_SEED", time.time_ns() % 1_000_000))
    print(f"MIZAR_SOAK_SEED={seed}")
    return random.Random(seed)


def rounds(usual: int) -> Iterator[int]:
    """Numbers of the rounds, from 1; what each took is printed."""
    for number in range(1, count(usual) + 1):
        began = time.monotonic()
        yield number
        print(f"round {number}: {time.monotonic() - began:.1f} s", flush=True)
