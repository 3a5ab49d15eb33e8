"""Container images without a registry: an archive is written from files, and loaded into a machine's containerd.

Called by `node` (the pause image), the provider of node images, and the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation.cluster import machines, oci
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

IMPORT_TIMEOUT = 120.0
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
    files = {path: oci.File(content=content, mode=0o755) for path, content in image.files.items()}
    config = {"Entrypoint": list(image.command), **({"User": image.user} if image.user else {})}
    return oci.archive(oci.assemble([oci.layer(files)], config), image.name)


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


def remove(places: StackPlaces, host: str, *unwanted: str) -> None:
    """These names are not in the machine's containerd; what runs of them goes on. Raises CommandError."""
    if there := sorted(set(unwanted) & set(names(places, host))):
        _ctr(places, host, "images", "rm", "--sync", *there)


def _ctr(places: StackPlaces, host: str, *arguments: str) -> str:
    return machines.run(places, host, (*CTR, *arguments), IMPORT_TIMEOUT)
