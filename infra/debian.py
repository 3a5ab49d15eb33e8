"""A base image's file system from what the distribution has installed on this machine: packages and all they need.

Nothing is fetched: this machine needs the same packages to work on the project. Files are taken as the package manager
lists them, without documentation; configuration that is made at installation is not part of it. Called by `images`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation.cluster.oci import File
from node_agent.model.errors import Permanent

DPKG = Path("/var/lib/dpkg")
# Not needed to run anything, and most of the size. The rest are parts of Python's library that nobody imports here.
LEFT_OUT = re.compile(
    r"/usr/share/(doc|man|info|locale|lintian|bug|bash-completion|menu|perl5|gcc|pixmaps|applications)(/|$)"
    r"|/usr/lib/python3[^/]*/(test|idlelib|lib2to3|ensurepip|tkinter|pydoc_data|distutils|turtledemo)(/|$)"
    r"|/usr/lib/[^/]+/(gconv|perl-base)(/|$)|/__pycache__(/|$)"
)
LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Package:
    """`needs`: groups of alternatives."""

    name: str
    architecture: str
    version: str
    needs: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]


def closure(roots: Iterable[str]) -> tuple[Package, ...]:
    """The packages and all that they depend on, by name. Raises Permanent naming each that is not installed."""
    try:
        installed = _installed((DPKG / "status").read_text(errors="replace"))
    except OSError as error:
        raise Permanent(f"make base image: read what is installed on this machine: {error}") from error
    provided = {virtual: each for each in installed.values() for virtual in each.provides}
    found: dict[str, Package] = {}
    missing: list[str] = []
    waiting: list[tuple[str, ...]] = [(root,) for root in roots]
    while waiting:
        alternatives = waiting.pop()
        chosen = next((each for name in alternatives if (each := installed.get(name) or provided.get(name))), None)
        if chosen is None:
            missing.append(" or ".join(alternatives))
        elif chosen.name not in found:
            found[chosen.name] = chosen
            waiting += chosen.needs
    if missing:
        raise Permanent(f"make base image: not installed on this machine: {', '.join(sorted(missing))}")
    return tuple(found[name] for name in sorted(found))


def identity(packages: Iterable[Package]) -> str:
    """12 hex digits for these packages in these versions."""
    text = "\n".join(f"{each.name} {each.architecture} {each.version}" for each in packages)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def files(packages: Iterable[Package]) -> dict[str, File]:
    """Path without a leading slash -> file, of all of them."""
    found: dict[str, File] = {}
    for name in LINKED:
        if Path("/", name).is_symlink():
            found[name] = File(link=str(Path("/", name).readlink()))
    for package in packages:
        for path in _listed(package):
            if LEFT_OUT.search(path):
                continue
            # /lib is a link to /usr/lib nowadays, while many packages still list their files there.
            here = Path(path).parent.resolve() / Path(path).name
            if here.is_symlink():
                found[str(here)[1:]] = File(link=str(here.readlink()))
            elif here.is_file():
                found[str(here)[1:]] = File(content=here.read_bytes(), mode=here.stat().st_mode & 0o777)
    return {path: file for path, file in found.items() if path}


def _listed(package: Package) -> list[str]:
    for name in (f"{package.name}:{package.architecture}", package.name):
        path = DPKG / "info" / f"{name}.list"
        if path.exists():
            return path.read_text().splitlines()
    raise Permanent(f"make base image: the package manager has no list of files of {package.name}")


def _installed(status: str) -> Mapping[str, Package]:
    found: dict[str, Package] = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", paragraph, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        needs = ", ".join(fields[key] for key in ("Pre-Depends", "Depends") if fields.get(key))
        found[fields["Package"]] = Package(
            name=fields["Package"],
            architecture=fields.get("Architecture", "all"),
            version=fields.get("Version", ""),
            needs=tuple(tuple(_name(one) for one in group.split("|")) for group in needs.split(",") if group.strip()),
            provides=tuple(_name(one) for one in fields.get("Provides", "").split(",") if one.strip()),
        )
    return found


def _name(relation: str) -> str:
    """ "python3:any (>= 3.11)" -> "python3"."""
    return relation.strip().partition(" ")[0].partition(":")[0]
