"""`mizar logs`: what the agent of a host, or the controller, has written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces
from node_agent.model.resources import AGENT, CONTROLLER, NAMESPACE

LOOK_EVERY = 0.2  # seconds


def file_of(places: StackPlaces, whose: str) -> Path:
    """The log of that host's agent, or of "controller". Raises Permanent naming those there are, or who else knows."""
    if not places.store.exists() and places.kubeconfig.exists():
        what = f"deployment/{CONTROLLER}" if whose == "controller" else f"daemonset/{AGENT} --all-pods"
        raise Permanent(
            f"read log of {whose}: it runs in a pod: KUBECONFIG={places.kubeconfig} kubectl -n {NAMESPACE} logs {what}"
        )
    hosts = places.root / "hosts"
    known = {"controller": places.controller / "controller.log"}
    if hosts.is_dir():
        known.update({folder.name: places.host(folder.name).log for folder in sorted(hosts.iterdir())})
    if whose not in known or not known[whose].exists():
        raise Permanent(f"read log of {whose}: there is none; there are {', '.join(sorted(known))}")
    return known[whose]


def lines(path: Path, *, follow: bool) -> Iterator[str]:
    """Its lines without their ends; with `follow` for ever, also over a log that is put aside for a new one."""
    file = path.open(errors="replace")
    rest = ""
    try:
        while True:
            while part := file.readline():
                rest += part
                if rest.endswith("\n"):
                    yield rest[:-1]
                    rest = ""
            if not follow:
                break
            if _replaced(path, file.fileno()):
                file.close()
                file = path.open(errors="replace")
                continue
            time.sleep(LOOK_EVERY)
        if rest:
            yield rest
    finally:
        file.close()


def _replaced(path: Path, descriptor: int) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return now.st_ino != os.fstat(descriptor).st_ino
