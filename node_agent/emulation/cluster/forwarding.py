"""What a host forwards by its port in a VPC: connections to ports of its own that are a pod's (`hostPort`), and nothing
else.

Who a connection is for says the CNI plugin `portmap`, in rules of its own. Here it gets the host's address in the VPC,
as no other may come out of that port, and all else that is not the host's own is kept from going either way. Called by
`host_port`.
"""

from __future__ import annotations

from pathlib import Path

from node_agent.kernel import netns

TABLE = "ip mizar"
FORWARDS = "net/ipv4/ip_forward"
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
    netns.set_sysctl(host, FORWARDS, "1")


def problems(host: Path, link: str) -> list[str]:
    """What is not as `ensure` left it, one sentence each."""
    told = netns.run_in(host, ["nft", "list", "table", *TABLE.split()], TIMEOUT, check=False).stdout
    found = [line.strip() for line in told.splitlines()]
    wanted = [line for lines in rules(link).values() for line in lines]
    missing = [f"on the host: no rule `{line}`" for line in wanted if line not in found]
    if netns.sysctl(host, FORWARDS) != "1":
        missing.append(f"on the host: sysctl {FORWARDS} is not 1")
    return missing


def remove(host: Path) -> None:
    """No rule of ours; absent is success. The host may go on forwarding: it may have done so before."""
    netns.run_in(host, ["nft", "-f", "-"], TIMEOUT, stdin=f"table {TABLE}\ndelete table {TABLE}\n")
