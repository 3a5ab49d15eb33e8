"""Writes node_agent/datapath/layout.py from the type information of a compiled bpf/layout.bpf.c.

Called by `make generate`; `make verify` calls it with --check, which fails when the committed file is not what the
headers say.  Reads `bpftool -j btf dump`, so that nothing is typed twice and byte order comes from __be16 and __be32.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

Type = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent.parent / "node_agent" / "datapath" / "layout.py"
HEAD = '''"""GENERATED from bpf/include/abi.h and maps.h by tools/gen_layout.py: change those and run `make generate`.

Records of the maps, enums of the wire and of the counters, and the maps themselves.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from node_agent.datapath.record import Field, MapSpec, Record
'''


class Types:
    """The types of one object by id, with qualifiers and typedefs looked through."""

    def __init__(self, types: list[Type]) -> None:
        self.by_id = {t["id"]: t for t in types}
        self.all = types

    def bare(self, id_: int) -> tuple[Type, str]:
        """The type behind typedefs, and the name of the first typedef met."""
        first, t = "", self.by_id[id_]
        while t["kind"] in ("TYPEDEF", "CONST", "VOLATILE"):
            if t["kind"] == "TYPEDEF" and not first:
                first = t["name"]
            t = self.by_id[t["type_id"]]
        return t, first

    def size(self, id_: int) -> int:
        t, _ = self.bare(id_)
        if t["kind"] == "ARRAY":
            return int(t["nr_elems"]) * self.size(t["type_id"])
        return 8 if t["kind"] == "PTR" else int(t["size"])


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def scalar(t: Type, typedef: str) -> str:
    code = {1: "B", 2: "H", 4: "I", 8: "Q"}[t["size"]]
    return (">" if typedef.startswith("__be") else "=") + code


def render_enum(t: Type, prefix: str) -> str:
    lines = [f"class {camel(t['name'])}(IntEnum):"]
    lines += [f"    {v['name'].removeprefix(prefix)} = {v['val']}" for v in t["values"]]
    return "\n".join(lines)


def enum_prefix(t: Type) -> str:
    """What all values of an enum begin with, up to its last underscore."""
    names = [v["name"] for v in t["values"]]
    if t["name"] == "limit":
        return ""
    if len(names) == 1:
        return str(t["name"]).split("_")[0].upper() + "_"
    shared = re.match(r"(.*_)", _common(names))
    return shared[1] if shared else ""


def _common(names: list[str]) -> str:
    low, high = min(names), max(names)
    end = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:end]


def render_struct(types: Types, t: Type) -> str:
    """One frozen record. `struct addr` is sixteen plain bytes: nobody computes with its words."""
    fields, attributes = [], []
    for member in t["members"]:
        name, offset = member["name"], member["bits_offset"] // 8
        if name.startswith("pad"):
            continue
        bare, typedef = types.bare(member["type_id"])
        count = 1
        if bare["kind"] == "ARRAY":
            count = int(bare["nr_elems"])
            bare, typedef = types.bare(bare["type_id"])
        if bare["kind"] == "STRUCT" and bare["name"] == "addr":
            fields.append(f'Field("{name}", {offset}, "16s")')
            attributes.append(f"    {name}: bytes = bytes(16)")
        elif bare["kind"] == "STRUCT":
            record = camel(bare["name"])
            fields.append(f'Field("{name}", {offset}, "", {count}, {record})')
            attributes.append(f"    {name}: tuple[{record}, ...] = ({record}(),) * {count}")
        elif count > 1 and bare["size"] == 1:
            fields.append(f'Field("{name}", {offset}, "{count}s", {count})')
            attributes.append(f"    {name}: bytes = bytes({count})")
        elif count > 1:
            fields.append(f'Field("{name}", {offset}, "{scalar(bare, typedef)}", {count})')
            attributes.append(f"    {name}: tuple[int, ...] = (0,) * {count}")
        else:
            fields.append(f'Field("{name}", {offset}, "{scalar(bare, typedef)}")')
            attributes.append(f"    {name}: int = 0")
    lines = [
        "@dataclass(frozen=True, kw_only=True)",
        f"class {camel(t['name'])}(Record):",
        f"    SIZE: ClassVar[int] = {t['size']}",
        "    FIELDS: ClassVar[tuple[Field, ...]] = (",
    ]
    lines += [f"        {field}," for field in fields] + ["    )", *attributes]
    return "\n".join(lines)


def map_spec(types: Types, name: str, t: Type) -> str:
    """`__uint(x, n)` is a pointer to an array of n, `__type(x, t)` a pointer to t (bpf_helpers.h)."""
    values: dict[str, int] = {}
    records: dict[str, str] = {"key": "None", "value": "None"}
    for member in t["members"]:
        target, _ = types.bare(types.by_id[types.bare(member["type_id"])[0]["id"]].get("type_id", 0) or 1)
        if member["name"] in ("key", "value"):
            pointee = types.bare(member["type_id"])[0]["type_id"]
            bare, _ = types.bare(pointee)
            values[member["name"]] = types.size(pointee)
            if bare["kind"] == "STRUCT":
                records[member["name"]] = camel(bare["name"])
        elif member["name"] != "values":
            values[member["name"]] = int(target["nr_elems"])
    return (
        f'    "{name}": MapSpec("{name}", {values["type"]}, {values.get("key", 4)}, {values.get("value", 4)}, '
        f"{values['max_entries']}, {values.get('map_flags', 0)}, {records['key']}, {records['value']}),"
    )


def render(dump: dict[str, Any]) -> str:
    types = Types(dump["types"])
    enums = [t for t in types.all if t["kind"] == "ENUM" and t["name"] not in ("(anon)", "bpf_map_type")]
    sections = {t["name"]: t for t in types.all if t["kind"] == "DATASEC"}
    maps = [types.by_id[v["type_id"]] for v in sections[".maps"]["vars"]]
    skip = {"flow_table", "nat_table", "addr", "(anon)"}
    structs = [t for t in types.all if t["kind"] == "STRUCT" and t["name"] not in skip]
    structs.sort(key=lambda t: (t["name"] not in ("prefix", "flow_entry"), t["name"]))  # nested ones first
    parts = [HEAD]
    parts += [render_enum(t, enum_prefix(t)) for t in sorted(enums, key=lambda t: str(t["name"]))]
    parts += [render_struct(types, t) for t in structs]
    specs = [map_spec(types, v["name"], types.bare(v["type_id"])[0]) for v in maps]
    parts.append("\n".join(["MAPS: dict[str, MapSpec] = {", *sorted(specs), "}"]))
    text = "\n\n\n".join(part.rstrip("\n") for part in parts)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    told = "# Of all the above: maps filled under another layout must not be read under this one."
    return f'{text}\n\n{told}\nDIGEST = "{digest}"\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object", type=Path, help="compiled layout.bpf.o")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    dump = subprocess.run(["bpftool", "-j", "btf", "dump", "file", str(args.object)], check=True, capture_output=True)
    text = render(json.loads(dump.stdout))
    if not args.check:
        OUTPUT.write_text(text)
    elif OUTPUT.read_text() != text:
        print("node_agent/datapath/layout.py is stale: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
