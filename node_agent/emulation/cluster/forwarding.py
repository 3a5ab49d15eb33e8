"""What a host forwards by its port in a VPC: connections to ports of its own that are a pod's (`hostPort`), and nothing
else.

Who a connection is for says the CNI plugin `portmap`, in rules of its own. Here it gets the host's address in the VPC,
as no other may come out of that port, and all else that is not the host's own is kept from going either way. Called by
`host_port`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from node_agent.kernel import netns

TABLE = "ip mizar"
TIMEOUT = 30.0


def rules(link: str) -> dict[str, tuple[str, ...]]:
    """Chain -> its lines, as nft(8) prints them. `link`: the host's interface into the VPC. Pure."""
    return {
        "forward": (
            "type filter hook forward priority filter; policy accept;",
            f'oifname "{link}" ct status dnat accept',
            f'oifname "{link}" drop',
            f'iifname "{link}" ct state established,related accept',
            f'iifname "{link}" drop',
        ),
        "postrouting": (
            "type nat hook postrouting priority srcnat; policy accept;",
            f'oifname "{link}" masquerade',
        ),
    }


def ensure(host: Path, link: str) -> None:
    """The host forwards so. `host`: its network namespace. Raises CommandError, Permanent."""
    # In one transaction: the table as it was is gone when the new one counts.
    chains = [f"chain {name} {{\n" + "\n".join(lines) + "\n}" for name, lines in rules(link).items()]
    text = "\n".join([f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{", *chains, "}"]) + "\n"
    netns.run_in(host, ["nft", "-f", "-"], TIMEOUT, stdin=text)
    # What comes in by the uplink is forwarded anyway (`emulation.hosts`); this is the way back, and ends with the link.
    netns.set_sysctl(host, _forwards(link), "1")


def problems(host: Path, link: str) -> list[str]:
    """What is not as `ensure` left it, one sentence each."""
    found = chains(netns.run_in(host, ["nft", "list", "table", *TABLE.split()], TIMEOUT, check=False).stdout)
    wanted = rules(link)
    differ = [name for name in wanted if found.get(name) != wanted[name]]
    wrong = [f"on the host: other rules in chain {name} of {TABLE}" for name in differ]
    wrong += [f"on the host: a chain {name} in {TABLE} that is not ours" for name in found.keys() - wanted.keys()]
    if netns.sysctl(host, _forwards(link)) != "1":
        wrong.append(f"on the host: sysctl {_forwards(link)} is not 1")
    return wrong


def chains(printed: str) -> dict[str, tuple[str, ...]]:
    """Chain -> its lines, of a table as nft prints it. Pure."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in map(str.strip, printed.splitlines()):
        if line.startswith("chain "):
            current = found.setdefault(line.split()[1], [])
        elif line and line != "}":
            current.append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def remove(host: Path) -> None:
    """No rule of ours; absent is success."""
    if shutil.which("nft"):  # else there is none
        netns.run_in(host, ["nft", "-f", "-"], TIMEOUT, stdin=f"table {TABLE}\ndelete table {TABLE}\n")


def _forwards(link: str) -> str:
    return f"net/ipv4/conf/{link}/forwarding"
