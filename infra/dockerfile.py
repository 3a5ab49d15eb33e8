"""What images/Dockerfile says, for a builder that needs no daemon. Pure; called by `images`.

The few instructions that a file without RUN consists of; anything else is an error that names its line, so that the
file means the same to `docker build`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from node_agent.model.errors import Invalid


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`copies`: (path in the context, absolute path in the image), in their order."""

    base: str
    copies: tuple[tuple[str, str], ...]
    env: Mapping[str, str]
    workdir: str
    entrypoint: tuple[str, ...]


def parse(text: str, arguments: Mapping[str, str]) -> Recipe:
    """`arguments`: as of `docker build --build-arg`. Raises Invalid with every mistake."""
    known: dict[str, str] = {}
    env: dict[str, str] = {}
    copies: list[tuple[str, str]] = []
    base, workdir, entrypoint, mistakes = "", "/", (), list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        instruction, _, rest = words.partition(" ")
        rest = re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], found[0]), rest.strip())
        try:
            match instruction.upper():
                case "ARG":
                    name, _, default = rest.partition("=")
                    known[name] = arguments.get(name, default)
                case "FROM":
                    base = rest
                case "COPY":
                    source, target = shlex.split(rest)
                    copies.append((source, target))
                case "ENV":
                    env |= dict(each.split("=", 1) for each in shlex.split(rest))
                case "WORKDIR":
                    workdir = rest
                case "ENTRYPOINT":
                    entrypoint = tuple(json.loads(rest))
                case _:
                    mistakes.append(f"line {number}: {instruction} is not understood here")
        except ValueError:
            mistakes.append(f"line {number}: {words!r} is malformed")
    mistakes += [f"ARG {name}: it has no value" for name, value in known.items() if not value]
    if not base:
        mistakes.append("FROM: missing")
    if mistakes:
        raise Invalid(f"read Dockerfile: {mistake}" for mistake in mistakes)
    return Recipe(base=base, copies=tuple(copies), env=env, workdir=workdir, entrypoint=tuple(entrypoint))
