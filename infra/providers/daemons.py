"""A long-lived module of this project under its supervisor, with a configuration file: agent and controller.

No resource of its own; called by its neighbours only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path

from node_agent.emulation import folders, processes
from node_agent.emulation.supervisor import write
from node_agent.model.places import StackPlaces

LOG_LINES = 15


@functools.cache
def sources() -> str:
    """Digest of the modules that agents and controllers run, as they are when it is first asked for."""
    root, whole = processes.ROOT, hashlib.sha256()
    for path in sorted((root / "node_agent").rglob("*.py")):
        content = path.read_bytes()
        whole.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return whole.hexdigest()


def start(folder: Path, name: str, config: str, *, code: str = "", netns: Path | None = None) -> processes.Observed:
    """`python -m node_agent.<name> --config FOLDER/<name>.json` with this text in it; another text is a restart, and so
    is another `code`."""
    folders.make_private(folder)
    path = folder / f"{name}.json"
    write(str(path), config)
    spec = processes.module(folder, name, f"node_agent.{name}", "--config", str(path), netns=netns)
    # Part of the spec: the supervisor starts the program anew exactly when one of them has changed.
    digests = {"MIZAR_CONFIG_DIGEST": hashlib.sha256(config.encode()).hexdigest(), "MIZAR_CODE_DIGEST": code}
    return processes.start(dataclasses.replace(spec, env={**spec.env, **digests}))


def running(folder: Path, name: str) -> processes.Observed | None:
    """The daemon where it should be: supervised, and in the namespace as it is now; else None."""
    found = processes.inspect(folder, name)
    return found if found is not None and found.supervisor_pid and found.placed else None


def controller(stack: str) -> processes.Observed | None:
    """The stack's controller, None when it does not run."""
    return running(StackPlaces(stack).controller, "controller")


def agent(stack: str, host: str) -> processes.Observed | None:
    """The host's agent, None when it does not run or runs in a namespace that is gone."""
    return running(StackPlaces(stack).host(host).root, "agent")


def config(folder: Path, name: str) -> str:
    """The text of its configuration file, "" for none."""
    try:
        return (folder / f"{name}.json").read_text()
    except FileNotFoundError:
        return ""


def last_words(folder: Path, name: str) -> str:
    """The end of its log, for error messages."""
    try:
        lines = (folder / f"{name}.log").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "no log"
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "an empty log"
