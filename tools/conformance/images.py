"""The image that the specs' pods are made of, without a registry: agnhost with the commands that specs call in it, from
the distribution's packages. One image under every name that they ask for: they say what to run. Called by `run`.

What upstream's images have beside that (iperf, a CoreDNS, nginx serving pages) is not in it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra import debian
from node_agent.emulation.cluster import images, oci
from node_agent.emulation.cluster.oci import File
from node_agent.model.places import StackPlaces

REGISTRY = "mizar.local/e2e"
TAGS = ("agnhost:2.56", "busybox:1.37.0-1", "jessie-dnsutils:1.7", "nginx:1.14-4", "pause:3.10.1")
"""As test/utils/image/manifest.go of the pinned Kubernetes has them, less the registry."""
REPOSITORIES = {"promoterE2eRegistry": REGISTRY, "gcRegistry": REGISTRY}
"""What $KUBE_TEST_REPO_LIST is to say."""
PACKAGES = ("bind9-dnsutils", "busybox-static", "curl", "dash", "libc-bin", "netcat-openbsd")  # libc-bin: getent
LINKS = {"usr/bin/nc": "nc.openbsd", "usr/bin/sh": "dash"}
"""What the packages leave to be chosen when they are installed. Busybox's shell would run busybox's commands, whatever
else there is of the name."""
NAMES = "hosts: files dns\n"


@dataclass(frozen=True, kw_only=True)
class Image:
    """`names`: every name that pods may ask for; the first is by digest. `archive`: to import."""

    names: tuple[str, ...]
    archive: bytes


def build(built: Path) -> Image:
    """The image, of what tools/setup/conformance.sh has built. Raises Permanent naming the missing packages."""
    base = debian.files(debian.closure(PACKAGES))
    files = {
        **_applets({*base, *LINKS}),
        **base,
        **{path: File(link=target) for path, target in LINKS.items()},
        "etc/nsswitch.conf": File(content=NAMES.encode()),
        "agnhost": File(content=(built / "agnhost").read_bytes(), mode=0o755),
        **{name: File(content=(built / name).read_bytes()) for name in ("localhost.crt", "localhost.key")},
        "tmp/.keep": File(),
    }
    config = {"Entrypoint": ["/agnhost"], "Cmd": ["pause"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    parts = oci.assemble([oci.layer(files)], config)
    names = (f"{REGISTRY}/agnhost@{parts.digest}", *(f"{REGISTRY}/{tag}" for tag in TAGS))
    return Image(names=names, archive=oci.archive(parts, *names))


def load(image: Image, places: StackPlaces, host: str) -> None:
    """The image is in the node's containerd under all its names. Raises Permanent, CommandError."""
    if set(image.names) <= set(images.names(places, host)):
        return
    inside = places.host(host).root / "conformance.tar"
    try:
        inside.write_bytes(image.archive)
        images.load(places, host, inside, image.names[0])
    finally:
        inside.unlink(missing_ok=True)


def _applets(taken: set[str]) -> dict[str, File]:
    """Links for busybox's commands, where there is no better one."""
    told = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True, timeout=10).stdout
    links = {f"usr/bin/{name}": File(link="busybox") for name in told.split()}
    return {path: file for path, file in links.items() if path not in taken}
