"""The provider's own settings: which cluster, which namespace, what may be changed. Called by `server`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from node_agent.model.errors import Invalid, MizarError
from node_agent.store.kubernetes_access import Access, from_kubeconfig, in_cluster
from tools.providers.kubernetes.values import is_unknown

USUAL = Path("~/.kube/config")
LEFT_OUT = ("renderYamlToDirectory",)
_FILES = (
    ("cluster", "certificate-authority"),
    ("user", "client-certificate"),
    ("user", "client-key"),
    ("user", "tokenFile"),
)


class NotYet(Exception):
    """A setting is not known in this preview."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """`force`: take fields from other managers. `adopt`: create may find the object there. `mutable`: kinds whose data
    may change in place. `drop_unreachable`: deletions succeed without a cluster; `skip_unreachable`: so do updates."""

    access: Access
    namespace: str = "default"
    force: bool = False
    adopt: bool = False
    mutable: frozenset[str] = frozenset()
    drop_unreachable: bool = False
    skip_unreachable: bool = False


def read(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Configuration:
    """The settings of one provider. Raises NotYet, Invalid with every mistake, Temporary for a file not readable."""
    for value in given.values():
        if is_unknown(value):
            raise NotYet("its kubeconfig is not known yet")
    mistakes = [f"kubernetes: {name}: is not supported by the stand-in" for name in LEFT_OUT if given.get(name)]
    if given.get("enableServerSideApply") in ("false", False):
        mistakes.append("kubernetes: enableServerSideApply: false: the stand-in applies server-side only")
    if mistakes:
        raise Invalid(mistakes)
    access, namespace = _access(given, environment)
    return Configuration(
        access=access,
        namespace=str(given.get("namespace") or namespace or "default"),
        force=_flag(given, "enablePatchForce"),
        adopt=_flag(given, "upsertExistingObjects"),
        mutable=frozenset(
            kind
            for kind, name in (("ConfigMap", "enableConfigMapMutable"), ("Secret", "enableSecretMutable"))
            if _flag(given, name)
        ),
        drop_unreachable=_flag(given, "deleteUnreachable"),
        skip_unreachable=_flag(given, "skipUpdateUnreachable"),
    )


def server(given: Mapping[str, Any]) -> str:
    """The API server's URL, "" when it cannot be told: a provider of another cluster is another provider."""
    try:
        return str(given.get("clusterIdentifier") or "") or read(given).access.server
    except (MizarError, NotYet):
        return ""


def _flag(given: Mapping[str, Any], name: str) -> bool:
    return str(given.get(name, "")).lower() == "true"


def _access(given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Access, str]:
    """The way into the cluster, and the namespace that the kubeconfig's context names."""
    text, folder = _kubeconfig(str(given.get("kubeconfig") or ""), environment)
    if text is None:
        return in_cluster(), ""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid([f"read kubeconfig: {str(error).splitlines()[0]}"]) from error
    if not isinstance(raw, dict):
        raise Invalid(["read kubeconfig: neither a file's path nor a kubeconfig"])
    raw["current-context"] = given.get("context") or raw.get("current-context")
    named = {each["name"]: each["context"] for each in raw.get("contexts") or ()}
    context: dict[str, Any] = named.get(raw["current-context"], {})
    if given.get("cluster"):
        context["cluster"] = given["cluster"]
    for entry in (*(raw.get("clusters") or ()), *(raw.get("users") or ())):
        for member, name in _FILES:
            if file := (entry.get(member) or {}).get(name):
                entry[member][name] = str(folder / file)
        command = (entry.get("user") or {}).get("exec") or {}
        if os.sep in str(command.get("command", "")):
            command["command"] = str(folder / command["command"])
    # In memory: it may hold keys.
    fd = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
    try:
        os.write(fd, yaml.safe_dump(raw).encode())
        return from_kubeconfig(Path(f"/proc/self/fd/{fd}")), str(context.get("namespace") or "")
    finally:
        os.close(fd)


def _kubeconfig(given: str, environment: Mapping[str, str]) -> tuple[str | None, Path]:
    """Its text and the folder that relative paths in it start from; None for the account of a pod."""
    if "\n" in given or given.lstrip().startswith("{"):
        return given, Path.cwd()
    named = [given] if given else [each for each in environment.get("KUBECONFIG", "").split(os.pathsep) if each]
    for name in named or [str(USUAL)]:
        path = Path(name).expanduser()
        if path.is_file():
            return path.read_text(), path.parent
    if not named and environment.get("KUBERNETES_SERVICE_HOST"):
        return None, Path()
    raise Invalid([f"read kubeconfig: there is no file {', '.join(named) or USUAL}"])
