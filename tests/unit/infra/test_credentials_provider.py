"""Credentials live in the state alone: when they are made anew, and what a difference is."""

from __future__ import annotations

from typing import Any

import pytest

from infra import credentials, pki
from infra.providers.credentials import AuthoritiesProvider, CredentialsProvider

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


def test_what_ends_soon_is_made_anew(node: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    provider = CredentialsProvider()
    monkeypatch.setattr(pki, "LEAF_DAYS", 29)
    old = made(provider, node)
    assert provider.diff("id", old, node).changes is True
    monkeypatch.undo()
    new = provider.update("id", old, node).outs
    assert new is not None and provider.diff("id", new, node).changes is False


def test_an_unknown_role_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="no such role: queen"):
        CredentialsProvider().create({**node, "role": "queen"})
