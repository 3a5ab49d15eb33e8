"""Where the API server is and who we are to it: a kubeconfig file, or the service account of a pod. Used by `open`.

A kubeconfig's current context counts. Understood are certificates and keys (as data or files), bearer tokens (as text
or file), and commands that print a token (`exec`, as GKE and EKS have it). Tokens that expire are read again.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from node_agent.kernel import commands
from node_agent.kernel.commands import CommandError
from node_agent.model.errors import Invalid, Temporary

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
"""How long a token is used without looking again: the kubelet renews a pod's long before it expires."""
EXEC_SECONDS = 30.0
IN_MEMORY = Path("/in-memory")
"""Stands for the file of a kubeconfig that is in none."""

Token = Callable[[], str]


@dataclass(frozen=True)
class Access:
    """`tls` None: plain HTTP, for a proxy on this machine. `name`: to be found in the server's certificate, "" that of
    the URL. `token`: "" when the certificate in `tls` says who we are."""

    server: str
    tls: ssl.SSLContext | None
    name: str
    token: Token


def in_cluster(account: Path = ACCOUNT, environment: Mapping[str, str] = os.environ) -> Access:
    """As the service account of the pod we are in. Raises Invalid outside of one."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        raise Invalid(["store: kubernetes: without a path of a kubeconfig works inside of a pod only"])
    tls = ssl.create_default_context(cafile=account / "ca.crt")
    return Access(f"https://{host}:{port}", tls, "", _renewed(lambda: _token_file(account / "token")))


def from_kubeconfig(path: Path) -> Access:
    """The current context of the file. Raises Invalid with every mistake, Temporary when it cannot be read now."""
    try:
        text = path.read_text()
    except OSError as error:
        raise Temporary(f"read kubeconfig {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid([f"read kubeconfig {path}: {error}"]) from error
    return from_text(text, path)


def from_text(text: str, path: Path = IN_MEMORY) -> Access:
    """The same of its text; `path` is what messages and files that it names relative to itself go by."""
    import yaml  # of no use inside of a pod

    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid([f"read kubeconfig {path}: {error}"]) from error
    context = _named(path, raw, "contexts", "context", raw.get("current-context") if isinstance(raw, dict) else None)
    cluster = _named(path, raw, "clusters", "cluster", context.get("cluster"))
    user = _named(path, raw, "users", "user", context.get("user"))
    return _access(path, cluster, user)


def _named(path: Path, raw: Any, group: str, member: str, name: Any) -> dict[str, Any]:
    entries = raw.get(group) if isinstance(raw, dict) else None
    for entry in entries or ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(member), dict):
            found: dict[str, Any] = entry[member]
            return found
    raise Invalid([f"read kubeconfig {path}: {group}: there is no {name!r}"])


def _access(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Access:
    mistakes: list[str] = []
    server = str(cluster.get("server", ""))
    if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
        mistakes.append(f"server: {server!r} is no URL")
    if cluster.get("insecure-skip-tls-verify"):
        mistakes.append("insecure-skip-tls-verify: the server must be known by its certificate")
    authority = _pem(path, cluster, "certificate-authority", mistakes)
    certificate, key = (_pem(path, user, field, mistakes) for field in ("client-certificate", "client-key"))
    if bool(certificate) != bool(key):
        mistakes.append("client-certificate, client-key: one without the other")
    mistakes += [f"{field}: is not supported" for field in ("auth-provider", "username") if field in user]
    if mistakes:
        raise Invalid(f"read kubeconfig {path}: {mistake}" for mistake in mistakes)
    tls = None
    if server.startswith("https:"):
        try:
            tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
            if certificate:
                _load_identity(tls, certificate + b"\n" + key)
        except (ssl.SSLError, ValueError) as error:
            raise Invalid([f"read kubeconfig {path}: certificates: {error}"]) from error
    return Access(server.rstrip("/"), tls, str(cluster.get("tls-server-name", "")), _token(path, user))


def _pem(path: Path, section: dict[str, Any], field: str, mistakes: list[str]) -> bytes:
    """Contents of the field, which may be data or a file named relative to the kubeconfig; b"" when there is none."""
    try:
        if data := section.get(f"{field}-data"):
            return base64.b64decode(data, validate=True)
        return (path.parent / section[field]).read_bytes() if section.get(field) else b""
    except (binascii.Error, ValueError) as error:
        mistakes.append(f"{field}-data: {error}")
    except OSError as error:
        mistakes.append(f"{field}: {section[field]}: {error.strerror}")
    return b""


def _load_identity(tls: ssl.SSLContext, pem: bytes) -> None:
    """Certificate and key into the context, which takes files only: one in memory, so that no key gets to a disk."""
    fd = os.memfd_create("client-identity", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        tls.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _token(path: Path, user: dict[str, Any]) -> Token:
    if fixed := str(user.get("token") or ""):
        return lambda: fixed
    if file := user.get("tokenFile"):
        return _renewed(lambda: _token_file(path.parent / file))
    if command := user.get("exec"):
        return _renewed(lambda: _printed_token(path, command))
    return lambda: ""


def _renewed(read: Token) -> Token:
    """`read`, asked again after TOKEN_SECONDS. Any thread may call it."""
    lock, kept, until = threading.Lock(), "", float("-inf")

    def token() -> str:
        nonlocal kept, until
        with lock:
            if time.monotonic() >= until:
                kept, until = read(), time.monotonic() + TOKEN_SECONDS
            return kept

    return token


def _token_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Temporary(f"read token {path}: {error.strerror}") from error


def _printed_token(path: Path, command: dict[str, Any]) -> str:
    """The token that the command of `exec` prints as an ExecCredential. Raises Temporary."""
    argv = [str(command.get("command", "")), *map(str, command.get("args") or ())]
    if os.sep in argv[0]:
        argv[0] = str(path.parent / argv[0])
    wanted = {"apiVersion": command.get("apiVersion"), "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {each["name"]: each["value"] for each in command.get("env") or ()}
    environment |= {"KUBERNETES_EXEC_INFO": json.dumps(wanted)}
    try:
        done = commands.run(argv, EXEC_SECONDS, env={**os.environ, **environment})
        return str(json.loads(done.stdout)["status"]["token"])
    except (CommandError, ValueError, KeyError, TypeError) as error:
        raise Temporary(f"ask {argv[0]} for a token: {error}") from error
