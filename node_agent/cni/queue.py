"""The removals that container runtimes asked for while the agent was away, as files that the plugin left.

shim.c writes them, one DEL request per file, whole or not at all; the agent's `plugin` reads them and forgets each once
it is done.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from node_agent.cni import protocol
from node_agent.cni.protocol import Request
from node_agent.model.errors import Invalid, Permanent

FOLDER = "deleted"  # beside the agent's socket, as in shim.c
LEFT_AFTER = 60.0  # seconds after which a half-written file is one that nobody goes on with


@dataclass(frozen=True)
class Queue:
    """`folder` need not exist. Errors of reading it are Permanent."""

    folder: Path

    @classmethod
    def beside(cls, socket: Path) -> Queue:
        return cls(socket.with_name(FOLDER))

    def waiting(self) -> list[Path]:
        """Entries, oldest first. Removes what a killed plugin left half-written."""
        try:
            found = [(path.lstat().st_mtime, path) for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Permanent(f"read {self.folder}: {error.strerror}") from error
        for at, path in found:
            if path.name.startswith(".") and time.time() - at > LEFT_AFTER:
                path.unlink(missing_ok=True)
        return [path for _, path in sorted(found) if not path.name.startswith(".")]

    def entry(self, container_id: str, interface: str) -> Path:
        """Where a removal of this attachment is, if there is one."""
        return self.folder / f"{container_id}@{interface}"

    def read(self, path: Path) -> Request | None:
        """The removal; None when there is none (any more), or none that can be meant: that file is removed."""
        try:
            request = protocol.decode_request(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Permanent(f"read {path}: {error.strerror}") from error
        except Invalid:
            request = Request(verb="STATUS")
        if request.verb != "DEL":
            self.forget(path)
            return None
        return request

    def forget(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
