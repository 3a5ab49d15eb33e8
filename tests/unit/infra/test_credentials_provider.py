"""Credentials live in the state alone: when they are made anew, and what a difference is."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra import credentials, pki
from infra.providers import objects
from infra.providers.credentials import AuthoritiesProvider, CredentialsProvider
from infra.providers.node_agent import NodeAgentProvider
from infra.providers.subnet import SubnetProvider
from infra.providers.vpc import VpcProvider

AUTHORITIES = {"stack": "local-k8s-abc123", "name": "cluster"}
NODE = {
    "stack": "local-k8s-abc123",
    "name": "host-1",
    "role": "node",
    "server": "https://198.18.0.10:443",
    "host": "host-1",
    "address": "198.18.0.11",
    "details": {},
}


def made(provider: Any, props: dict[str, Any]) -> dict[str, Any]:
    outs = provider.create(props).outs
    assert outs is not None
    return outs


ADMIN = {
    "stack": "local-k8s-abc123",
    "name": "admin",
    "role": "admin",
    "server": "https://127.0.0.1:7443",
    "details": {"cluster": "local-k8s-abc123"},
}


@pytest.fixture(scope="module")
def node() -> dict[str, Any]:
    return {**NODE, "authorities": credentials.authorities()}


def test_what_was_made_stays(node: dict[str, Any]) -> None:
    for provider, props in ((AuthoritiesProvider(), AUTHORITIES), (CredentialsProvider(), node)):
        outs = made(provider, props)
        assert provider.diff("id", outs, props).changes is False
        read = provider.read("id", outs)
        assert read.outs == outs and read.id == "id"


def test_another_authority_or_address_is_a_difference(node: dict[str, Any]) -> None:
    provider = CredentialsProvider()
    outs = made(provider, node)
    for change in ({"authorities": credentials.authorities()}, {"address": "198.18.0.12"}):
        told = provider.diff("id", outs, {**node, **change})
        assert told.changes and not told.replaces
        assert made(provider, {**node, **change})["files"] != outs["files"]


@pytest.mark.parametrize("props", [NODE, ADMIN], ids=lambda props: props["role"])
def test_what_ends_soon_is_made_anew(
    props: dict[str, Any], node: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {**props, "authorities": node["authorities"]}
    provider = CredentialsProvider()
    monkeypatch.setattr(pki, "LEAF_DAYS", 29)
    old = made(provider, wanted)
    assert provider.diff("id", old, wanted).changes is True
    monkeypatch.undo()
    new = provider.update("id", old, wanted).outs
    assert new is not None and provider.diff("id", new, wanted).changes is False


@pytest.mark.parametrize(
    "provider", [VpcProvider(), SubnetProvider(), NodeAgentProvider()], ids=lambda one: type(one).__name__
)
def test_a_renewed_kubeconfig_reaches_all_who_go_by_it(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ended one being shown to the cluster, which would refuse it."""
    monkeypatch.setattr(objects, "find", lambda *_: pytest.fail("asked with the old one"))
    olds = {"stack": "s", "name": "n", "vpc": "n", "cidr": "10.0.0.0/16", "set_size": 1, "bouncers": 1, "host": "n"}
    for news in ("new", UNKNOWN):  # as the engine says at a preview
        told = provider.diff("id", {**olds, "kubeconfig": "old"}, {**olds, "kubeconfig": news})
        assert told.changes and not told.replaces


def test_an_unknown_role_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="no such role: queen"):
        CredentialsProvider().create({**node, "role": "queen"})
