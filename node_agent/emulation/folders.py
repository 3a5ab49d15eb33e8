"""Folders below /run/mizar/<id> that only root enters. Called by the emulation and the Pulumi providers."""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path) -> None:
    """The folder, and whatever is missing above it, with mode 0700 for any umask; what is there stays as it is."""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
