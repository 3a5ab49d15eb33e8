"""Tells whether a stack's lock was left by a killed run: exit 0 if so, 1 if there is none or its holder may live.

Called by stack.sh with the backend's URL and the stack's name. Knows file backends only; in a shared one (S3, GCS)
the holder may be on another machine, and Pulumi's own message stands.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit


def _runs_pulumi(pid: int) -> bool:
    """Whether that process exists and is Pulumi: the number may have been given to another since."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("pulumi")
    except OSError:
        return False


def main(backend: str, stack: str) -> int:
    """Look at every lock of the stack; one live or foreign holder is enough to leave all alone."""
    if not backend.startswith("file://"):
        return 1
    # A URL may carry options after `?`; file://~ is the home directory in Pulumi's reading.
    where = Path(urlsplit(backend).netloc + urlsplit(backend).path).expanduser() / ".pulumi" / "locks"
    locks = list(where.glob(f"organization/*/{stack}/*.json"))
    for lock in locks:
        try:
            holder = json.loads(lock.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 1
        if holder.get("hostname") != socket.gethostname() or _runs_pulumi(int(holder.get("pid", 0))):
            return 1
    return 0 if locks else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
