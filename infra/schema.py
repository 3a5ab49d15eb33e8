"""Reading of untrusted nested values, key by key, that keeps every mistake instead of stopping at the first.

Called by `infra.settings`. A mistake is one sentence "field: value: rule"; a field is written as the user finds it in
the stack's file: `vpcs[0].subnets[1].cidr`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from node_agent.model.addresses import (
    ADDRESS_RULE,
    NAME_RULE,
    address_mistakes,
    is_name,
    prefix_mistakes,
    prefix_rule,
    told,
)


class Mistakes:
    """The list that all sections of one configuration share."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, field: str, value: object, rule: str) -> None:
        """One sentence more; a mistake that is known already is not repeated."""
        self.extend([told(field, value, rule)])

    def extend(self, sentences: Iterable[str]) -> None:
        """As `add`, of sentences that another has made."""
        self.found += [sentence for sentence in sentences if sentence not in self.found]


def places(raw: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(field, value) of each place in raw values that "vpcs[].subnets[].name" leads to; what is something else on the
    way is left out."""
    step, _, rest = path.partition(".")
    key = step.removesuffix("[]")
    if not isinstance(raw, Mapping) or key not in raw:
        return
    if not rest:
        yield key, raw[key]
    elif isinstance(raw[key], list):
        for index, item in enumerate(raw[key]):
            for field, value in places(item, rest):
                yield f"{key}[{index}].{field}", value


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

    def integer(self, key: str, default: int, low: int, high: int, *, required: bool = False) -> int:
        """A whole number from `low` to `high`; `default` when absent or wrong."""
        value = self._take(key)
        if value is None and not required:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the engine carries every number as a float
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.mistakes.add(self.field(key), value, f"must be a whole number from {low} to {high}")
            return default
        return value

    def boolean(self, key: str) -> bool:
        """True or false; false when absent or wrong."""
        value = self._take(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.mistakes.add(self.field(key), value, "must be true or false")
        return False

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
        value = self._take(key)
        if value is None:
            value = default
        if value is None:
            self.mistakes.add(self.field(key), value, f"is missing; {prefix_rule(shortest, longest)}")
            return None
        mistakes = prefix_mistakes(self.field(key), value, shortest, longest)
        self.mistakes.extend(mistakes)
        return None if mistakes else ipaddress.IPv4Network(value)

    def address(self, key: str, *, required: bool = False) -> ipaddress.IPv4Address | None:
        """An IPv4 address; None when absent or wrong."""
        value = self._take(key)
        if value is None:
            if required:
                self.mistakes.add(self.field(key), value, f"is missing; {ADDRESS_RULE}")
            return None
        mistakes = address_mistakes(self.field(key), value)
        self.mistakes.extend(mistakes)
        return None if mistakes else ipaddress.IPv4Address(value)

    def sections(self, key: str) -> list[Section]:
        """The mappings of a list; [] when absent or wrong."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.mistakes.add(self.field(key), value, "must be a list")
            return []
        return [Section(f"{self.field(key)}[{index}]", item, self.mistakes) for index, item in enumerate(value)]

    def references(self, key: str, rule: str) -> list[str]:
        """The names of a list; those that are none are left out. `rule`: for what is no list."""
        value = self._take(key)
        if not isinstance(value, list):
            self.mistakes.add(self.field(key), value, rule)
            return []
        for index, item in enumerate(value):
            if not is_name(item):
                self.mistakes.add(f"{self.field(key)}[{index}]", item, NAME_RULE)
        return [item for item in value if is_name(item)]

    def section(self, key: str) -> Section | None:
        """The mapping at this key; None when something else, or nothing, is there."""
        value = self._take(key)
        return Section(self.field(key), value, self.mistakes) if isinstance(value, Mapping) else None

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
        if not is_name(value):
            self.mistakes.add(self.field(key), value, NAME_RULE)
            return ""
        return str(value)
