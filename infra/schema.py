"""Reading of untrusted nested values, key by key, that keeps every mistake instead of stopping at the first.

Called by `infra.settings`. A mistake is one sentence "field: value: rule"; a field is written as the user finds it in
the stack's file: `vpcs[0].subnets[1].cidr`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
NAME_LENGTH = 40
NAME_RULE = f"a name is 1 to {NAME_LENGTH} of a-z, 0-9 and '-', begins with a letter and does not end with '-'"


class Mistakes:
    """The list that all sections of one configuration share."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, field: str, value: object, rule: str) -> None:
        """One sentence more; a mistake that is known already is not repeated."""
        sentence = f"{field}: {shown(value)}: {rule}"
        if sentence not in self.found:
            self.found.append(sentence)


def shown(value: object) -> str:
    """A value as a person wrote it, cut to a readable length."""
    plain = value if value is None or isinstance(value, bool | int | float | list | dict) else str(value)
    text = plain if isinstance(plain, str) and plain else json.dumps(plain, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


class Section:
    """One mapping of the configuration. Read its keys, then call `finish`, which reports those nobody asked for."""

    def __init__(self, path: str, raw: Any, mistakes: Mistakes) -> None:
        self.path, self.mistakes = path, mistakes
        self._asked: set[str] = set()
        self._raw: Mapping[str, Any] = {}
        if isinstance(raw, Mapping):
            self._raw = raw
        else:
            mistakes.add(path, raw, "must be a mapping of keys to values")
            self.mistakes = Mistakes()  # what else is missing in it is no news

    def field(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        return self._raw.get(key) is not None

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`; `default` when absent or wrong."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the engine carries every number as a float
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.mistakes.add(self.field(key), value, f"must be a whole number from {low} to {high}")
            return default
        return value

    def name(self, key: str = "name") -> str:
        """A name; "" when missing or wrong."""
        return self._matching(key, required=True)

    def reference(self, key: str, *, required: bool = False) -> str:
        """The name of another object, which `infra.rules` looks up; "" when absent or wrong."""
        return self._matching(key, required=required)

    def choice(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self._take(key)
        if value is None:
            return default
        if value not in allowed:
            self.mistakes.add(self.field(key), value, f"must be one of {', '.join(allowed)}")
            return default
        return str(value)

    def text(self, key: str, default: str = "") -> str:
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.mistakes.add(self.field(key), value, "must be text")
            return default
        return value

    def network(self, key: str, default: str | None, shortest: int, longest: int) -> ipaddress.IPv4Network | None:
        """An IPv4 prefix without host bits, from /`shortest` to /`longest`; None when missing or wrong."""
        rule = f"must be an IPv4 prefix without host bits from /{shortest} to /{longest}, like 10.10.0.0/16"
        value = self._take(key)
        if value is None:
            value = default
        if value is None:
            self.mistakes.add(self.field(key), value, f"is missing; {rule}")
            return None
        try:
            if not isinstance(value, str) or "/" not in value:
                raise ValueError(value)
            network = ipaddress.IPv4Network(value)
        except ValueError:
            self.mistakes.add(self.field(key), value, rule)
            return None
        if not shortest <= network.prefixlen <= longest:
            self.mistakes.add(self.field(key), value, rule)
            return None
        return network

    def address(self, key: str) -> ipaddress.IPv4Address | None:
        value = self._take(key)
        if value is None:
            return None
        try:
            if not isinstance(value, str):
                raise ValueError(value)
            return ipaddress.IPv4Address(value)
        except ValueError:
            self.mistakes.add(self.field(key), value, "must be an IPv4 address, like 10.10.1.20")
            return None

    def sections(self, key: str) -> list[Section]:
        """The mappings of a list; [] when absent or wrong."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.mistakes.add(self.field(key), value, "must be a list")
            return []
        return [Section(f"{self.field(key)}[{index}]", item, self.mistakes) for index, item in enumerate(value)]

    def finish(self) -> None:
        """Report the keys that nobody read."""
        for key in sorted(set(self._raw) - self._asked):
            known = ", ".join(sorted(self._asked))
            self.mistakes.add(self.field(key), self._raw[key], f"unknown key; known are {known}")

    def _take(self, key: str) -> Any:
        self._asked.add(key)
        return self._raw.get(key)

    def _matching(self, key: str, *, required: bool) -> str:
        value = self._take(key)
        if value is None and not required:
            return ""
        if value is None:
            self.mistakes.add(self.field(key), value, f"is missing; {NAME_RULE}")
            return ""
        if not isinstance(value, str) or len(value) > NAME_LENGTH or not NAME.fullmatch(value):
            self.mistakes.add(self.field(key), value, NAME_RULE)
            return ""
        return value
