"""Who may do what in a cluster: every certificate, key and kubeconfig of its programs, from two sets of authorities.
Called by the PKI providers and the tests; `pki` makes the certificates, `render.kubeconfig` the texts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from infra import pki
from infra.pki import Pair
from infra.render import kubeconfig


def authorities() -> dict[str, str]:
    """What lasts as long as the cluster: three authorities and the key of service account tokens, file -> PEM."""
    files: dict[str, str] = {}
    for file, name in (("ca", "kubernetes-ca"), ("front-proxy-ca", "front-proxy-ca"), ("etcd-ca", "etcd-ca")):
        _put(files, file, pki.authority(name))
    files["sa.pub"], files["sa.key"] = pki.signing_key()
    return files


def control_plane(
    roots: Mapping[str, str], *, host: str, address: str, port: int, services: str, domain: str, names: tuple[str, ...]
) -> dict[str, str]:
    """Every file of a control plane, by the names that `emulation.cluster.configs` uses. `roots`: of `authorities`;
    `names`: further names and addresses that clients reach the API server by."""
    files = dict(roots)
    ca, front, etcd = (_get(roots, name) for name in ("ca", "front-proxy-ca", "etcd-ca"))
    service = "kubernetes.default"
    serves = (
        *("kubernetes", service, f"{service}.svc", f"{service}.svc.{domain}", "localhost", host),
        *(api_service(services), address, "127.0.0.1", *names),
    )
    _put(files, "apiserver", pki.issue(ca, "kube-apiserver", server=tuple(dict.fromkeys(serves))))
    # Full rights towards kubelets from the first moment: a role binding would have to be made first, and a kubelet
    # remembers a refusal for half a minute. The API server can do all of this anyway.
    kubelets = pki.issue(ca, "kube-apiserver-kubelet-client", groups=["system:masters"], client=True)
    _put(files, "apiserver-kubelet-client", kubelets)
    _put(files, "front-proxy-client", pki.issue(front, "front-proxy-client", client=True))
    _put(files, "etcd", pki.issue(etcd, "etcd", client=True, server=("localhost", "127.0.0.1")))
    _put(files, "apiserver-etcd-client", pki.issue(etcd, "kube-apiserver", client=True))
    server = f"https://{address}:{port}"
    for file, user in (
        ("controller-manager.conf", "system:kube-controller-manager"),
        ("scheduler.conf", "system:kube-scheduler"),
    ):
        files[file] = _kubeconfig(server, ca, user)
    return files


def admin(roots: Mapping[str, str], server: str, cluster: str) -> str:
    """A kubeconfig that may do everything. `server`: URL as the user reaches it; `cluster`: its name in the file."""
    return _kubeconfig(server, _get(roots, "ca"), "kubernetes-admin", ("system:masters",), cluster)


def node(roots: Mapping[str, str], *, host: str, address: str, server: str) -> dict[str, str]:
    """The files of a host's kubelet: it may do what a node may with what is its own, and be called securely."""
    ca = _get(roots, "ca")
    files = {"ca.crt": ca.certificate}
    _put(files, "kubelet", pki.issue(ca, f"system:node:{host}", groups=["system:nodes"], server=(host, address)))
    files["kubeconfig"] = _kubeconfig(server, ca, f"system:node:{host}", ("system:nodes",))
    return files


def api_service(services: str) -> str:
    """Address of the service `kubernetes`: the first of the prefix, by Kubernetes' rule."""
    return str(ipaddress.ip_network(services)[1])


def _kubeconfig(server: str, ca: Pair, user: str, groups: tuple[str, ...] = (), cluster: str = "mizar") -> str:
    shown = pki.issue(ca, user, groups=groups, client=True)
    return kubeconfig.render(server, ca.certificate, shown.certificate, shown.key, user=user, cluster=cluster)


def _put(files: dict[str, str], name: str, pair: Pair) -> None:
    files[f"{name}.crt"], files[f"{name}.key"] = pair.certificate, pair.key


def _get(files: Mapping[str, str], name: str) -> Pair:
    return Pair(certificate=files[f"{name}.crt"], key=files[f"{name}.key"])
