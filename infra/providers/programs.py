"""Dynamic resource: the compiled programs that the agents of a stack load.

They are copied into the stack's folder, under the digest of their content: an edited data plane reaches the hosts with
the next `up`, and never half-way because somebody compiles while an agent restarts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation import folders
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

PATTERN = "*.bpf.o"


@dataclass(frozen=True, kw_only=True)
class ProgramsProps:
    """`source`: folder of compiled objects; `digest`: `digest_of` it when the program ran."""

    stack: str
    source: str
    digest: str


class ProgramsProvider(Provider[ProgramsProps]):
    props = ProgramsProps
    identity = ("stack",)

    def observe(self, props: ProgramsProps) -> Outputs | None:
        folder = folder_of(props.stack, props.digest)
        return {"digest": digest_of(folder), "folder": str(folder)} if folder.is_dir() else None

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["digest"])

    def ensure(self, props: ProgramsProps, had: ProgramsProps | None) -> Outputs:
        folder = folder_of(props.stack, props.digest)
        if digest_of(folder) != props.digest:
            _copy(Path(props.source), folder, props.digest)
        # The previous ones stay: agents that run load them again until they are restarted, after this resource.
        kept = {folder, folder_of(props.stack, had.digest)} if had else {folder}
        for other in set(folder.parent.iterdir()) - kept:
            shutil.rmtree(other, ignore_errors=True)
        return {"folder": str(folder)}

    def remove(self, props: ProgramsProps) -> None:
        shutil.rmtree(folder_of(props.stack, props.digest).parent, ignore_errors=True)


class Programs(Made, module="local", name="Programs"):
    folder: pulumi.Output[str]

    def __init__(self, name: str, props: ProgramsProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ProgramsProvider(), name, props, ("folder",), opts)


def folder_of(stack: str, digest: str) -> Path:
    return StackPlaces(stack).root / "programs" / digest[:12]


def digest_of(folder: Path) -> str:
    """One digest of all compiled objects in a folder; "" when there are none."""
    whole = hashlib.sha256()
    paths = sorted(folder.glob(PATTERN))
    for path in paths:
        content = path.read_bytes()
        whole.update(f"{path.name} {len(content)}\n".encode() + content)
    return whole.hexdigest() if paths else ""


def _copy(source: Path, folder: Path, digest: str) -> None:
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    folders.make_private(aside)
    try:
        for path in source.glob(PATTERN):
            shutil.copyfile(path, aside / path.name)
            (aside / path.name).chmod(0o600)
        if digest_of(aside) != digest:
            raise Permanent(f"copy programs from {source}: they changed since this run began; run `up` again")
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
