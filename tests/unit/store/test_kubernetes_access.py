from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from node_agent.model.errors import Invalid, Temporary
from node_agent.store import kubernetes_access
from node_agent.store.kubernetes_access import from_kubeconfig, in_cluster
from node_agent.store.open import open_store


def write(folder: Path, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    path = folder / "config"
    path.write_text(
        json.dumps(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:8001", **cluster}}],
                "users": [{"name": "u", "user": user or {}}],
            }
        )
    )
    return path


def test_a_plain_kubeconfig(tmp_path: Path) -> None:
    access = from_kubeconfig(write(tmp_path, {"token": "secret"}))
    assert (access.server, access.tls, access.token()) == ("http://127.0.0.1:8001", None, "secret")
    assert from_kubeconfig(write(tmp_path)).token() == ""


def test_every_mistake_of_a_kubeconfig_is_told(tmp_path: Path) -> None:
    cluster = {"server": "nowhere", "certificate-authority": "none.pem", "insecure-skip-tls-verify": True}
    user = {"client-certificate-data": "%", "auth-provider": {"name": "old"}, "client-key": "none.pem"}
    with pytest.raises(Invalid) as caught:
        from_kubeconfig(write(tmp_path, user, **cluster))
    assert len(caught.value.mistakes) == 6
    assert all(str(tmp_path / "config") in mistake for mistake in caught.value.mistakes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("current-context: x\ncontexts: []", "contexts: there is no 'x'"),
        ("[", "read kubeconfig"),
        ("- 1", "contexts: there is no None"),
        ("", "contexts: there is no None"),
    ],
)
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(Invalid, match=said):
        from_kubeconfig(tmp_path / "config")


def test_an_absent_kubeconfig_may_come(tmp_path: Path) -> None:
    with pytest.raises(Temporary, match="No such file"):
        open_store(f"kubernetes:{tmp_path}/config")


def test_a_token_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(kubernetes_access.time, "monotonic", lambda: now)
    (tmp_path / "token").write_text("one\n")
    access = from_kubeconfig(write(tmp_path, {"tokenFile": "token"}))
    assert access.token() == "one"
    (tmp_path / "token").write_text("two\n")
    assert access.token() == "one"
    now += 61
    assert access.token() == "two"
    now += 61
    (tmp_path / "token").unlink()
    with pytest.raises(Temporary, match="read token"):
        access.token()


def test_a_pod_is_who_its_service_account_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("pod")
    monkeypatch.setattr(kubernetes_access.ssl, "create_default_context", lambda cafile: cafile)
    access = in_cluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert (access.server, access.tls, access.token()) == ("https://10.96.0.1:443", tmp_path / "ca.crt", "pod")


def test_outside_of_a_pod_there_is_no_service_account(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="inside of a pod only"):
        in_cluster(tmp_path, {})


@pytest.mark.parametrize("url", ["kubernetes:config", "kubernetes", "kube:/x"])
def test_urls_without_meaning(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Invalid, match="store:"):
        open_store(url)


def test_a_command_prints_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    printed = json.dumps({"kind": "ExecCredential", "status": {"token": "printed"}})

    def run(argv: list[str], timeout: float, *, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        ran.append((argv, env["CLOUD"], json.loads(env["KUBERNETES_EXEC_INFO"])["kind"]))
        return subprocess.CompletedProcess(argv, 0, printed, "")

    monkeypatch.setattr(kubernetes_access.commands, "run", run)
    command = {"command": "./plugin", "args": ["get"], "env": [{"name": "CLOUD", "value": "one"}], "apiVersion": "v1"}
    access = from_kubeconfig(write(tmp_path, {"exec": command}))
    assert ran == [], "not before it is needed"
    assert (access.token(), access.token()) == ("printed", "printed")
    assert ran == [([f"{tmp_path}/plugin", "get"], "one", "ExecCredential")]
    printed = "nothing"
    again = from_kubeconfig(write(tmp_path, {"exec": command}))
    with pytest.raises(Temporary, match="for a token"):
        again.token()
