"""What the programs of a cluster are told, and images written without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tomllib
from pathlib import Path

from node_agent.emulation.cluster import configs, images
from node_agent.emulation.cluster.configs import Cluster

CLUSTER = Cluster(address="198.18.0.10", dns="10.96.0.10")
IMAGE = images.Image(name="mizar.local/tool:1", files={"/bin/tool": b"\x7fELF"}, command=("/bin/tool",), user="1:1")


def test_containerd_is_told_what_an_unprivileged_machine_needs() -> None:
    told = tomllib.loads(configs.containerd())
    assert told["version"] == 3
    assert told["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == configs.PAUSE
    assert told["plugins"]["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"] is True


def test_a_kubelet_admits_nobody_unknown() -> None:
    told = json.loads(configs.kubelet(CLUSTER, ()))
    assert told["authentication"]["anonymous"]["enabled"] is False
    assert told["authorization"]["mode"] == "Webhook"
    assert told["clusterDNS"] == ["10.96.0.10"]
    assert json.loads(configs.kubelet(Cluster(address="198.18.0.10"), ()))["clusterDNS"] == []


def test_taints_are_taken_apart() -> None:
    told = json.loads(configs.kubelet(CLUSTER, ("mizar.com/network=missing:NoSchedule", "a:NoExecute")))
    assert told["registerWithTaints"] == [
        {"key": "mizar.com/network", "value": "missing", "effect": "NoSchedule"},
        {"key": "a", "effect": "NoExecute"},
    ]


def test_every_file_that_programs_are_told_of_is_one_of_the_credentials() -> None:
    from infra import credentials

    made = credentials.control_plane(
        credentials.authorities(), host="c", address="198.18.0.10", port=443, services="10.96.0.0/16",
        domain="cluster.local", names=(),
    )  # fmt: skip
    root = Path("/r")
    told = (
        *configs.etcd(root / "etcd"),
        *configs.api_server(root / "pki", CLUSTER),
        *configs.controller_manager(root / "kube-controller-manager", CLUSTER),
        *configs.scheduler(root / "kube-scheduler"),
    )
    named = {Path(one.partition("=")[2]).name for one in told if "=/r/pki/" in one}
    assert named <= set(made)
    # Authorities' keys sign; only that of the cluster itself is in use on the host.
    assert set(made) - named == {"etcd-ca.key", "front-proxy-ca.key"}


def test_an_archive_is_the_same_on_any_day_and_whole() -> None:
    first = images.archive(IMAGE)
    assert first == images.archive(IMAGE)
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()}  # type: ignore[union-attr]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(files["index.json"])["manifests"]
    assert listed["annotations"]["io.containerd.image.name"] == IMAGE.name
    manifest = json.loads(blob(files, listed))
    config = json.loads(blob(files, manifest["config"]))
    assert config["config"] == {"Entrypoint": ["/bin/tool"], "User": "1:1"}
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blob(files, layer))) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.mode, entry.mtime) == ("bin/tool", 0o755, 0)


def blob(files: dict[str, bytes], about: dict[str, object]) -> bytes:
    content = files["blobs/sha256/" + str(about["digest"]).removeprefix("sha256:")]
    assert hashlib.sha256(content).hexdigest() in str(about["digest"]) and len(content) == about["size"]
    return content
