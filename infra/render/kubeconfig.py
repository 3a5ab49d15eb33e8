"""Kubeconfig files. Pure. Called by the program and the tests."""

from __future__ import annotations

import base64
import json


def render(server: str, ca: str, certificate: str, key: str, *, user: str = "admin", cluster: str = "mizar") -> str:
    """The text of a kubeconfig: JSON, which every client reads as YAML. `server`: URL; the rest PEM."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _coded(ca)}}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": _coded(certificate), "client-key-data": _coded(key)},
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    return json.dumps(config, indent=2) + "\n"


def certificate(text: str) -> str:
    """The client's certificate in a text of `render`, PEM."""
    (user,) = json.loads(text)["users"]
    return base64.b64decode(user["user"]["client-certificate-data"]).decode()


def _coded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
