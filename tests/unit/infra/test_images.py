"""What an image is made of: the Dockerfile as it is understood here, packages and what they need, and the archive."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from infra import debian, images
from infra.dockerfile import parse
from node_agent.emulation.cluster import oci
from node_agent.emulation.cluster.oci import File
from node_agent.model.errors import Invalid, Permanent

ROOT = Path(__file__).parents[3]
STATUS = """Package: tool
Status: install ok installed
Architecture: all
Version: 1
Pre-Depends: libbase (>= 2)
Depends: libone (>= 1) | libother, virtual:any

Package: libother
Status: install ok installed
Architecture: amd64
Version: 3
Description: text
 Depends: not this one

Package: libbase
Status: install ok installed
Architecture: amd64
Version: 2

Package: provider
Status: install ok installed
Architecture: amd64
Version: 4
Provides: virtual (= 1)

Package: libone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def entries(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: entry for entry in tar}


def test_the_projects_dockerfile_is_understood() -> None:
    recipe = parse((ROOT / "images/Dockerfile").read_text(), {"BASE": "some:1"})
    assert recipe.base == "some:1"
    assert recipe.copies == (("mizar", "/opt/mizar"),)
    assert recipe.entrypoint == ("/usr/bin/python3", "-S", "-m")
    assert recipe.env["PYTHONPATH"] == "/opt/mizar:/opt/mizar/site"


def test_every_mistake_of_a_dockerfile_is_told_with_its_line() -> None:
    with pytest.raises(Invalid) as error:
        parse("ARG BASE\nRUN true\nCOPY one\nENTRYPOINT nothing\n", {})
    told = str(error.value)
    for part in ("line 2: RUN", "line 3: 'COPY one'", "line 4: 'ENTRYPOINT nothing'", "ARG BASE", "FROM: missing"):
        assert part in told


def test_an_image_is_known_by_its_digest_and_is_the_same_every_time() -> None:
    files = {"b": File(content=b"2", mode=0o755), "a/link": File(link="../b")}
    one, two = (oci.assemble([oci.layer(each)], {}) for each in (files, dict(reversed(files.items()))))
    other = oci.assemble([oci.layer({**files, "b": File(content=b"3", mode=0o755)})], {})
    assert one == two and one.digest != other.digest
    layer = entries(one.layers[0])
    assert (layer["a/link"].linkname, layer["b"].mode, layer["b"].mtime) == ("../b", 0o755, 0)
    with tarfile.open(fileobj=io.BytesIO(oci.archive(one, f"x@{one.digest}"))) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        [listed] = index["manifests"]
        assert listed["digest"] == one.digest
        assert listed["annotations"] == {"io.containerd.image.name": f"x@{one.digest}"}
        assert f"blobs/sha256/{one.digest[7:]}" in tar.getnames()


def test_packages_bring_all_that_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text(STATUS)
    monkeypatch.setattr(debian, "DPKG", tmp_path)
    found = debian.closure(["tool"])
    assert [each.name for each in found] == ["libbase", "libother", "provider", "tool"]
    assert debian.identity(found) != debian.identity(found[:-1])
    with pytest.raises(Permanent, match="not installed on this machine: absent, libone"):
        debian.closure(["libone", "absent"])


def test_the_context_has_the_program_and_nothing_of_the_emulation(tmp_path: Path) -> None:
    for name in images.PARTS:
        (tmp_path / "node_agent" / name).mkdir(parents=True)
        (tmp_path / "node_agent" / name / "it.py").write_text("")
    (tmp_path / "node_agent" / "emulation").mkdir()
    (tmp_path / "node_agent" / "emulation" / "it.py").write_text("")
    compiled = [*(f"bpf/build/{name}" for name in images.PROGRAMS), images.SHIM]
    for name in compiled:
        with pytest.raises(Permanent, match=f"{name} is not compiled: run make"):
            images.context(tmp_path)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"elf")
    found = images.context(tmp_path)
    assert found["mizar/bin/mizar"].mode == 0o755
    assert "mizar/node_agent/agent/it.py" in found and "mizar/bpf/transit.bpf.o" in found
    assert "mizar/site/urllib3/__init__.py" in found
    assert not any("emulation" in path for path in found)


def test_all_that_an_image_lacks_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "DPKG", tmp_path)
    told = images.missing(tmp_path)
    assert [sentence.partition(":")[2] for sentence in told[:4]] == [
        *(f" bpf/build/{name} is not compiled: run make bpf" for name in images.PROGRAMS),
        f" {images.SHIM} is not compiled: run make cni",
    ]
    assert "read what is installed" in told[4]
    (tmp_path / "status").write_text(STATUS)
    assert "not installed on this machine: libbpf1" in images.missing(tmp_path)[4]


def test_a_kept_base_is_of_these_packages_and_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text("")
    monkeypatch.setattr(debian, "DPKG", tmp_path)
    monkeypatch.setattr(images, "PACKAGES", ())
    monkeypatch.setattr(images, "_compiled", lambda files: files)

    def kept() -> set[str]:
        images._base(images.DISTRIBUTION, tmp_path / "cache")
        return {path.name for path in (tmp_path / "cache").iterdir()}

    assert len(kept()) == len(kept()) == 1
    monkeypatch.setattr(images.inspect, "getsource", lambda code: f"another {code}")
    assert len(kept()) == 2


def test_the_cache_keeps_the_last_few(tmp_path: Path) -> None:
    for number in range(images.KEPT + 2):
        images._write(tmp_path / f"mizar-{number}.tar", b"")
        os.utime(tmp_path / f"mizar-{number}.tar", (number, number))
    images._write(tmp_path / "base-1.tar", b"")
    kept = [f"mizar-{number}.tar" for number in range(2, images.KEPT + 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base-1.tar", *kept]


def test_the_name_server_is_one_file_that_nobody_may_run_with_one_capability(tmp_path: Path) -> None:
    program = tmp_path / "coredns"
    program.write_bytes(b"elf")
    built = images.coredns(program, tmp_path)
    assert built == images.coredns(program, tmp_path)
    assert built.reference.startswith("mizar.local/coredns@sha256:")
    with tarfile.open(built.archive) as tar:
        blobs = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    [config] = [json.loads(blob) for blob in blobs.values() if b'"Entrypoint"' in blob]
    assert config["config"] == {"Entrypoint": ["/coredns"], "User": "65532:65532"}
    [layer] = [blob for blob in blobs.values() if b"coredns" in blob and blob[:1] != b"{"]
    [(name, entry)] = entries(layer).items()
    assert (name, entry.mode) == ("coredns", 0o755)
    # As setcap cap_net_bind_service=+ep writes it.
    written = entry.pax_headers["SCHILY.xattr.security.capability"].encode()
    assert written == bytes.fromhex("0100000200040000000000000000000000000000")


def test_a_missing_name_server_is_told_with_what_builds_it(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"run tools/setup/kubernetes\.sh"):
        images.coredns(tmp_path / "coredns", tmp_path)
