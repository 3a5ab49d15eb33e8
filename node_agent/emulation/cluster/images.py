"""Container images without a registry: an archive is written from files, and loaded into a machine's containerd.

Called by `node` (the pause image) and the tests.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation.cluster import machines
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

IMPORT_TIMEOUT = 120.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CTR = ("/opt/containerd/bin/ctr", "--namespace=k8s.io")


@dataclass(frozen=True, kw_only=True)
class Image:
    """`name`: "registry/path:tag", with any tag but latest, which kubelets would want to pull. `files`: path ->
    content, all executable. `user`: "" for root."""

    name: str
    files: Mapping[str, bytes]
    command: Sequence[str]
    user: str = ""


def archive(image: Image) -> bytes:
    """A tar of the image in OCI's layout: the same bytes for the same image, on any day."""
    layer = _tar({path.lstrip("/"): (content, 0o755) for path, content in image.files.items()})
    config = _json(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(image.command), **({"User": image.user} if image.user else {})},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _about(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_about(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
    )
    listed = _about(manifest, "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**listed, "annotations": {"io.containerd.image.name": image.name}}]}
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": (blob, 0o644) for blob in (layer, config, manifest)}
    layout = (_json({"imageLayoutVersion": "1.0.0"}), 0o644)
    return _tar({"oci-layout": layout, "index.json": (_json(index), 0o644), **blobs})


def load(places: StackPlaces, host: str, source: Path, name: str) -> None:
    """The archive's image is in the machine's containerd, under that name. Raises Permanent.

    `source`: a path of the computer in the stack's folder of that host, which the machine sees in /run/mizar.
    """
    inside = Path("/run/mizar") / source.relative_to(places.host(host).root)
    # Unpacked here and now: a kubelet that looks for the image in between would find only half of it.
    _ctr(places, host, "images", "import", "--local", str(inside))
    if name not in names(places, host):
        raise Permanent(f"load image {name} on {host}: the archive {source} holds another one")


def names(places: StackPlaces, host: str) -> tuple[str, ...]:
    """Names of the images in the machine's containerd. Raises CommandError."""
    return tuple(_ctr(places, host, "images", "ls", "-q").split())


def _ctr(places: StackPlaces, host: str, *arguments: str) -> str:
    return machines.run(places, host, (*CTR, *arguments), IMPORT_TIMEOUT)


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _about(blob: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}
