"""Images in OCI's layout, written from nothing but bytes: layers, configuration, manifest, and the archive around them.

Pure, and the same bytes for the same input on any day. Called by `images` and by `infra.images`.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, kw_only=True)
class File:
    """`link`: target of a symbolic link, which has no content; everything belongs to root. `capabilities`: bits that
    whoever runs the file gets, as far as he may have them at all."""

    content: bytes = b""
    mode: int = 0o644
    link: str = ""
    capabilities: int = 0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """An image without a name. `digest`: "sha256:..." of its manifest, which stands for all of it."""

    layers: tuple[bytes, ...]
    config: bytes
    manifest: bytes
    digest: str


def layer(files: Mapping[str, File]) -> bytes:
    """An uncompressed tar, sorted by path; folders come into being with what is in them."""
    return _tar({path.lstrip("/"): file for path, file in files.items()})


def assemble(layers: Sequence[bytes], config: Mapping[str, object]) -> Parts:
    """The image of these layers, bottom first. `config`: OCI's fields Entrypoint, Env, User, WorkingDir, Labels."""
    whole = _json(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [_digest(each) for each in layers]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _about(whole, CONFIG),
            "layers": [_about(each, LAYER) for each in layers],
        }
    )
    return Parts(layers=tuple(layers), config=whole, manifest=manifest, digest=_digest(manifest))


def archive(parts: Parts, *names: str) -> bytes:
    """A tar to import. `names`: "registry/path:tag" or "registry/path@digest"; they are beside the image, so that the
    digest may be part of them."""
    about = _about(parts.manifest, MANIFEST)
    listed = [{**about, "annotations": {"io.containerd.image.name": name}} for name in names]
    index = {"schemaVersion": 2, "manifests": listed}
    blobs = {f"blobs/sha256/{_digest(each)[7:]}": each for each in (*parts.layers, parts.config, parts.manifest)}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs}
    return _tar({path: File(content=content) for path, content in files.items()})


def _tar(files: Mapping[str, File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode = file.mode
            if file.link:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.link, 0o777
            else:
                entry.size = len(file.content)
            if file.capabilities:
                entry.pax_headers = {"SCHILY.xattr.security.capability": _vfs_capabilities(file.capabilities)}
            tar.addfile(entry, None if file.link else io.BytesIO(file.content))
    return buffer.getvalue()


def _vfs_capabilities(bits: int) -> str:
    """The kernel's struct vfs_cap_data, revision 2, permitted and effective, as text of the same bytes."""
    low, high = bits & 0xFFFFFFFF, bits >> 32
    # A tar's headers are UTF-8; containerd takes the bytes of the text as they are.
    return struct.pack("<5I", 0x02000001, low, 0, high, 0).decode("ascii")


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _about(blob: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}
