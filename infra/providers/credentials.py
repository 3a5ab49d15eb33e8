"""Dynamic resources: the authorities of a cluster, and what they have signed for somebody. They exist in the stack's
state alone, as secrets; whoever needs them is handed them. Renewed by the first `up` within a month of their end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pulumi
from pulumi import ResourceOptions

from infra import credentials, pki
from infra.providers.base import Made, Outputs, Provider
from infra.render import kubeconfig
from node_agent.model.errors import Permanent

RENEW_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class AuthoritiesProps:
    """`name`: of the cluster."""

    stack: str
    name: str


class _InState(Provider[Any]):
    """What nothing in the world can change: the last run's outputs hold until their time is up."""

    made: ClassVar[str] = "files"

    def observe(self, props: Any) -> Outputs | None:
        return {}

    def remove(self, props: Any) -> None:
        pass

    def drift(self, props: Any, news: Any, outputs: Outputs) -> bool:
        files = outputs.get(self.made) or {}
        ends = [pki.days_left(shown) for name, text in files.items() if (shown := _certificate(name, text))]
        return not ends or min(ends) < RENEW_DAYS


class AuthoritiesProvider(_InState):
    props = AuthoritiesProps

    def ensure(self, props: AuthoritiesProps, had: AuthoritiesProps | None) -> Outputs:
        return {"files": credentials.authorities()}


class Authorities(Made, module="local", name="Authorities"):
    """`files`: name -> PEM; secret."""

    files: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, props: AuthoritiesProps, opts: ResourceOptions | None = None) -> None:
        super().__init__(AuthoritiesProvider(), name, props, ("files",), _secret(opts))


@dataclass(frozen=True, kw_only=True)
class CredentialsProps:
    """`role`: control-plane, node or admin. `authorities`: the files of `Authorities`. `server`: URL of the API server
    for this one; `host`, `address`: of a control plane or node; `details`: further arguments of
    `infra.credentials.control_plane`, or the name of an admin's cluster."""

    stack: str
    name: str
    role: str
    authorities: Any
    server: Any = ""
    host: str = ""
    address: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class CredentialsProvider(_InState):
    props = CredentialsProps
    identity = ("stack", "name", "role")

    def ensure(self, props: CredentialsProps, had: CredentialsProps | None) -> Outputs:
        roots = dict(props.authorities)
        if props.role == "control-plane":
            details = {**props.details, "names": tuple(props.details.get("names", ()))}
            files = credentials.control_plane(roots, host=props.host, address=props.address, **details)
        elif props.role == "node":
            files = credentials.node(roots, host=props.host, address=props.address, server=props.server)
        elif props.role == "admin":
            files = {"kubeconfig": credentials.admin(roots, props.server, props.details["cluster"])}
            files["ca.crt"] = roots["ca.crt"]
        else:
            raise Permanent(f"make credentials {props.name}: no such role: {props.role}")
        return {"files": files}


class Credentials(Made, module="local", name="Credentials"):
    """`files`: name -> text; secret."""

    files: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, props: CredentialsProps, opts: ResourceOptions | None = None) -> None:
        super().__init__(CredentialsProvider(), name, props, ("files",), _secret(opts))


def _certificate(file: str, text: str) -> str:
    """The certificate that the file is or holds, PEM; "" for a key."""
    if file == "kubeconfig" or file.endswith(".conf"):
        return kubeconfig.certificate(text)
    return text if file.endswith(".crt") else ""


def _secret(opts: ResourceOptions | None) -> ResourceOptions:
    mine = ResourceOptions(additional_secret_outputs=["files"])
    return ResourceOptions.merge(opts, mine)
