"""Mizar's image: what goes into it, built from images/Dockerfile, and how it gets to where pods run. CoreDNS's too.

There need not be a container daemon: the Dockerfile has no RUN, so an image is its base's layers and one of ours, and
this writes them. Here the base is made of the distribution's packages (`debian`). `docker build` with the files of
`context` and another BASE would make an equivalent image; no daemon was at hand to try it. An image is known by its
digest only: pods ask for `NAME@sha256:...`, so an edit is another image, and no edit is none.

How it gets to the nodes is a resource's affair, whose output `image` is what pods ask for, known once it can be had:
`providers/node_image.py` loads it into each node's containerd, under the name given here. A push to a registry will be
another such resource, whose `image` has that registry's name and the same digest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra import debian
from infra.dockerfile import Recipe, parse
from node_agent.emulation.cluster import oci
from node_agent.emulation.cluster.oci import File, Parts
from node_agent.model.errors import Permanent

NAME = "mizar.local/mizar"
COREDNS = "mizar.local/coredns"
NET_BIND_SERVICE = 1 << 10
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libbpf1")
DISTRIBUTION = "distribution"
"""The BASE that is made here."""
PARTS = ("agent", "cni", "controller", "datapath", "health", "kernel", "metrics", "model", "rows", "store")
"""Of node_agent: what pods run, the health gate's among them."""
LIBRARIES = ("prometheus_client", "pyroute2", "urllib3")
"""Pure Python, at the versions of this program's own environment."""
PROGRAMS = ("transit.bpf.o", "endpoint.bpf.o", "clock.bpf.o")
NOBODY = 65532
SHIM = "node_agent/cni/build/mizar"
COMPILE_SECONDS = 300.0
KEPT = 4
"""Archives of a kind in the cache, 60 MB each."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """`reference`: NAME@digest. `archive`: a file to import, in OCI's layout."""

    reference: str
    archive: Path


def build(root: Path, cache: Path) -> Built:
    """The image of the project in `root`, as a file in `cache`; what is there already is not built again.

    Raises Permanent when a package or a compiled program is missing, Invalid for a Dockerfile that is not understood.
    """
    recipe = parse((root / "images" / "Dockerfile").read_text(), {"BASE": DISTRIBUTION})
    own = oci.layer(_compiled(_copied(recipe, context(root))))
    config = {
        "Entrypoint": list(recipe.entrypoint),
        "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", *(f"{name}={value}" for name, value in recipe.env.items())],
        "WorkingDir": recipe.workdir,
    }
    return _kept(oci.assemble([_base(recipe.base, cache), own], config), NAME, cache)


def missing(root: Path) -> list[str]:
    """What `build` cannot do without and does not find, one sentence each."""
    found = _unbuilt(root)
    try:
        debian.closure(PACKAGES)
    except Permanent as error:
        found.append(str(error))
    return found


def coredns(program: Path, cache: Path) -> Built:
    """An image of that static program and nothing else; whoever runs it may have ports below 1024 if the container may.

    Raises Permanent when the program is missing.
    """
    try:
        file = File(content=program.read_bytes(), mode=0o755, capabilities=NET_BIND_SERVICE)
    except FileNotFoundError:
        raise Permanent(f"build image: {program} is not built: run tools/setup/kubernetes.sh") from None
    config = {"Entrypoint": ["/coredns"], "User": f"{NOBODY}:{NOBODY}"}
    return _kept(oci.assemble([oci.layer({"coredns": file})], config), COREDNS, cache)


def _kept(parts: Parts, name: str, cache: Path) -> Built:
    """The archive of the image in the cache, written unless it is there."""
    reference = f"{name}@{parts.digest}"
    path = cache / f"{name.rpartition('/')[2]}-{parts.digest[7:19]}.tar"
    if not path.exists():
        _write(path, oci.archive(parts, reference))
    return Built(reference=reference, archive=path)


def context(root: Path) -> dict[str, File]:
    """The files beside the Dockerfile, as `docker build` would get them: all in the folder `mizar`."""
    found: dict[str, File] = {"mizar/node_agent/__init__.py": File()}
    for part in PARTS:
        found |= _sources(root / "node_agent" / part, f"mizar/node_agent/{part}")
    for name in LIBRARIES:
        found |= _sources(_library(name), f"mizar/site/{name}")
    if unbuilt := _unbuilt(root):
        raise Permanent("; ".join(unbuilt))
    for name in PROGRAMS:
        found[f"mizar/bpf/{name}"] = File(content=(root / "bpf/build" / name).read_bytes())
    found["mizar/bin/mizar"] = File(content=(root / SHIM).read_bytes(), mode=0o755)
    return found


def _unbuilt(root: Path) -> list[str]:
    parts = [*((f"bpf/build/{name}", "make bpf") for name in PROGRAMS), (SHIM, "make cni")]
    return [f"build image: {part} is not compiled: run {how}" for part, how in parts if not (root / part).is_file()]


def _copied(recipe: Recipe, given: Mapping[str, File]) -> dict[str, File]:
    found: dict[str, File] = {}
    for source, target in recipe.copies:
        inside = {path: file for path, file in given.items() if path.startswith(f"{source.rstrip('/')}/")}
        if not inside:
            raise Permanent(f"build image: COPY {source}: there is nothing of that name")
        found |= {target.strip("/") + path[len(source.rstrip("/")) :]: file for path, file in inside.items()}
    return found


def _base(name: str, cache: Path) -> bytes:
    """The base's layer, kept: it changes with the distribution's updates and with the code that makes it."""
    if name != DISTRIBUTION:
        raise Permanent(f"build image: base {name!r}: without a container daemon there is only {DISTRIBUTION!r}")
    packages = debian.closure(PACKAGES)
    made_of = [debian.identity(packages), *(inspect.getsource(code) for code in (debian, oci, _compiled))]
    path = cache / f"base-{hashlib.sha256(''.join(made_of).encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        _write(path, oci.layer(_compiled(debian.files(packages))))
    return path.read_bytes()


def _sources(folder: Path, target: str) -> dict[str, File]:
    return {
        f"{target}/{path.relative_to(folder)}": File(content=path.read_bytes())
        for path in sorted(folder.rglob("*.py"))
        if "__pycache__" not in path.parts
    }


def _library(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        raise Permanent(f"build image: this environment has no package {name}")
    return Path(spec.origin).parent


def _compiled(files: dict[str, File]) -> dict[str, File]:
    """With byte code by the distribution's Python, which is the image's: its file system is read-only in pods, and a
    start would compile everything anew. No times in it, so the same sources are the same bytes."""
    with tempfile.TemporaryDirectory(prefix="mizar-image-") as name:
        folder = Path(name)
        for path, file in files.items():
            if path.endswith(".py") and not file.link:
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.content)
        command = ["/usr/bin/python3", "-I", "-m", "compileall", "-q", "-j", "1", "-s", name, "-p", "/"]
        command += ["--invalidation-mode", "unchecked-hash", name]
        # A file of a package that is no Python after all (a template) is none of our concern: it stays as it is.
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_SECONDS, check=False, close_fds=True
        )
        made = {str(path.relative_to(folder)): File(content=path.read_bytes()) for path in folder.rglob("*.pyc")}
    return files | made


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.rename(path)
    # Every edit makes another one; those of other clones are made again when they are wanted.
    kind = path.name.partition("-")[0]
    for old in sorted(path.parent.glob(f"{kind}-*.tar"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
