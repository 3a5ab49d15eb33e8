"""Certificates and kubeconfigs of a cluster, checked by another reader of them than the one that made them."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra import credentials, pki

PLANE = {
    "host": "control-1",
    "address": "198.18.0.10",
    "port": 443,
    "services": "10.96.0.0/16",
    "domain": "cluster.local",
    "names": ("api.example",),
}


@pytest.fixture(scope="module")
def roots() -> dict[str, str]:
    return credentials.authorities()


@pytest.fixture(scope="module")
def plane(roots: dict[str, str]) -> dict[str, str]:
    return credentials.control_plane(roots, **PLANE)  # type: ignore[arg-type]


def read(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def who(text: str) -> tuple[str, set[str]]:
    subject = read(text).subject
    groups = {str(one.value) for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value), groups


def uses(text: str) -> set[str]:
    names = {ExtendedKeyUsageOID.CLIENT_AUTH: "client", ExtendedKeyUsageOID.SERVER_AUTH: "server"}
    return {names[one] for one in read(text).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}


def test_every_certificate_belongs_to_its_key(plane: dict[str, str]) -> None:
    names = [name.removesuffix(".crt") for name in plane if name.endswith(".crt")]
    assert len(names) == 8
    for name in names:
        key = load_pem_private_key(plane[f"{name}.key"].encode(), None)
        assert read(plane[f"{name}.crt"]).public_key() == key.public_key(), name


@pytest.mark.parametrize(
    ("name", "authority", "wanted"),
    [
        ("apiserver", "ca", {"server"}),
        ("apiserver-kubelet-client", "ca", {"client"}),
        ("front-proxy-client", "front-proxy-ca", {"client"}),
        ("etcd", "etcd-ca", {"client", "server"}),
        ("apiserver-etcd-client", "etcd-ca", {"client"}),
    ],
)
def test_each_is_signed_by_its_own_authority_for_its_own_use(
    plane: dict[str, str], name: str, authority: str, wanted: set[str]
) -> None:
    made = read(plane[f"{name}.crt"])
    made.verify_directly_issued_by(read(plane[f"{authority}.crt"]))
    for other in {"ca", "front-proxy-ca", "etcd-ca"} - {authority}:
        with pytest.raises(ValueError):
            made.verify_directly_issued_by(read(plane[f"{other}.crt"]))
    assert uses(plane[f"{name}.crt"]) == wanted
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_api_server_may_be_called_by_every_name_of_it(plane: dict[str, str]) -> None:
    names = read(plane["apiserver.crt"]).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {
        "10.96.0.1",
        "198.18.0.10",
        "127.0.0.1",
    }
    assert {"kubernetes.default.svc.cluster.local", "control-1", "localhost", "api.example"} <= set(
        names.get_values_for_type(x509.DNSName)
    )


def test_a_node_is_itself_and_no_more(roots: dict[str, str]) -> None:
    files = credentials.node(roots, host="host-1", address="198.18.0.11", server="https://198.18.0.10:443")
    assert set(files) == {"ca.crt", "kubelet.crt", "kubelet.key", "kubeconfig"}
    user = json.loads(files["kubeconfig"])["users"][0]["user"]
    shown = base64.b64decode(user["client-certificate-data"]).decode()
    assert who(shown) == ("system:node:host-1", {"system:nodes"})
    assert uses(shown) == {"client"}
    assert uses(files["kubelet.crt"]) == {"server"}
    assert not set(files) & {"ca.key", "sa.key"}


def test_an_admins_kubeconfig_is_complete(roots: dict[str, str]) -> None:
    config = json.loads(credentials.admin(roots, "https://127.0.0.1:7443", "local-k8s-abc123"))
    assert config["current-context"] == config["contexts"][0]["name"] == "local-k8s-abc123"
    where = config["clusters"][0]["cluster"]
    assert where["server"] == "https://127.0.0.1:7443"
    assert base64.b64decode(where["certificate-authority-data"]).decode() == roots["ca.crt"]
    shown = base64.b64decode(config["users"][0]["user"]["client-certificate-data"]).decode()
    assert who(shown) == ("kubernetes-admin", {"system:masters"})


def test_days_left() -> None:
    authority = pki.authority("one")
    assert pki.AUTHORITY_DAYS - 1 < pki.days_left(authority.certificate) <= pki.AUTHORITY_DAYS
    made = pki.issue(authority, "two", client=True)
    assert pki.LEAF_DAYS - 1 < pki.days_left(made.certificate) <= pki.LEAF_DAYS
