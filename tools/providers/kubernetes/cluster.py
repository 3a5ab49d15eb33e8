"""Requests to the API server as a resource provider needs them. Called by `server` and `waits`.

The store's client (node_agent/store/kubernetes_http.py) speaks JSON and JSON patches, and its errors are those of a
store; here are wanted apply patches, dry runs, logs, kinds by discovery, and the server's refusals field by field.
The way in (certificates, tokens, commands) is the store's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from node_agent.model.errors import Temporary
from node_agent.store.kubernetes_access import Access
from tools.providers.kubernetes.objects import Object, group_of, name_of, namespace_of

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 30.0
PREVIEW_SECONDS = 5.0
"""How long a preview waits for an answer."""
PATIENCE_SECONDS = 10.0
"""How long an unreachable or overloaded server is asked again, outside of previews."""
UNREACHABLE_SECONDS = 20.0
"""How long a server that could not be reached is not tried again in a preview."""
_AGAIN = (429, 500, 502, 503, 504)


class Unreachable(Exception):
    """No answer, or no right to any."""


class Refused(Exception):
    """The API server's answer is no. `causes`: its {"field", "message", "reason"}."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        self.code, self.reason = code, str(status.get("reason", ""))
        self.causes = [dict(cause) for cause in (status.get("details") or {}).get("causes") or ()]
        super().__init__(str(status.get("message") or f"HTTP {code}"))

    @property
    def conflicts(self) -> list[dict[str, str]]:
        """The fields that another manager holds."""
        return [cause for cause in self.causes if cause.get("reason") == "FieldManagerConflict"]


@dataclass(frozen=True)
class Kind:
    """How a kind is served."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        space = f"/namespaces/{quote(namespace)}" if self.namespaced else ""
        return f"{root}{space}/{self.plural}" + (f"/{quote(name)}" if name else "")


class Cluster:
    """Any thread may use it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._pool = _pool(access)
        self._lock = threading.Lock()
        self._kinds: dict[str, dict[str, Kind]] = {}
        self._down_until, self._why_down = 0.0, ""

    # --- objects ---

    def kind(self, api_version: str, kind: str, *, patient: bool = True) -> Kind | None:
        """How the kind is served, None when it is not. A kind not seen so far is asked for again each time."""
        with self._lock:
            known = self._kinds.get(api_version, {}).get(kind)
        if known is not None:
            return known
        path = f"/apis/{api_version}" if group_of(api_version) else f"/api/{api_version}"
        try:
            listed = self.ask("GET", path, patient=patient)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise
        found = {
            each["kind"]: Kind(api_version, each["name"], bool(each["namespaced"]))
            for each in listed.get("resources") or ()
            if "/" not in each["name"]
        }
        with self._lock:
            self._kinds[api_version] = found
        return found.get(kind)

    def get(self, kind: Kind, namespace: str, name: str, *, patient: bool = True) -> Object | None:
        try:
            return self.ask("GET", kind.path(namespace, name), patient=patient)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str, selector: Mapping[str, str] | None = None) -> list[Object]:
        labels = ",".join(f"{key}={value}" for key, value in (selector or {}).items())
        query = {"labelSelector": labels} if labels else {}
        items: list[Object] = self.ask("GET", kind.path(namespace), query).get("items") or []
        return items

    def apply(
        self, kind: Kind, body: Object, manager: str, *, force: bool = False, dry: bool = False, patient: bool = True
    ) -> Object:
        """Server-side apply. A dry run changes nothing. Raises Refused, with the conflicts unless `force`."""
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry:
            query["dryRun"] = "All"
        path = kind.path(namespace_of(body), name_of(body))
        return self.ask("PATCH", path, query, body, "application/apply-patch+yaml", patient=patient)

    def delete(self, kind: Kind, live: Object, propagation: str) -> None:
        """Only this very object; what is gone already is fine."""
        options = {"propagationPolicy": propagation, "preconditions": {"uid": live["metadata"]["uid"]}}
        try:
            self.ask("DELETE", kind.path(namespace_of(live), name_of(live)), {}, options, "application/json")
        except Refused as refused:
            if refused.code not in (404, 409):
                raise

    def last_line(self, namespace: str, pod: str, container: str, *, previous: bool) -> str:
        """The last line that a container logged, "" when there is none to be had."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        query = {"container": container, "tailLines": "1", "previous": str(previous).lower()}
        try:
            lines = self._answer("GET", f"{path}?{urlencode(query)}", None, {}).data.decode(errors="replace").strip()
        except (Refused, Unreachable):
            return ""
        return lines.splitlines()[-1] if lines else ""

    # --- requests ---

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "",
        *,
        patient: bool = True,
    ) -> Object:
        """The answer's JSON. Everything asked here can be repeated. Raises Refused, Unreachable.

        Not `patient`: one try, and none at all when the last one was a moment ago.
        """
        url = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content} if content else {}
        if not patient and time.monotonic() < self._down_until:
            raise Unreachable(self._why_down)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                found: Object = json.loads(self._answer(method, url, data, headers, patient=patient).data)
                return found
            except (Unreachable, Refused) as error:
                if isinstance(error, Unreachable):
                    self._down_until, self._why_down = time.monotonic() + UNREACHABLE_SECONDS, str(error)
                elif error.code not in _AGAIN or "not declared in schema" in str(error):
                    raise
                if not patient or time.monotonic() >= deadline:
                    raise
            time.sleep(0.3)

    def close(self) -> None:
        self._pool.close()

    def _answer(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], *, patient: bool = True
    ) -> Any:
        server = self._access.server
        try:
            own = {"Accept": "application/json, */*;q=0.5", "User-Agent": "pulumi-kubernetes-stand-in"}
            if token := self._access.token():
                own["Authorization"] = f"Bearer {token}"
            answer = self._pool.urlopen(
                method, url, body=body, headers={**own, **headers}, redirect=False, timeout=_timeout(patient=patient)
            )
        except Temporary as error:  # a token that could not be had
            raise Unreachable(str(error)) from error
        except HTTPError as error:
            raise Unreachable(f"cannot reach the Kubernetes API at {server}: {error.__cause__ or error}") from error
        if answer.status == 401:
            raise Unreachable(f"the Kubernetes API at {server} does not know us: check the kubeconfig's user")
        if answer.status >= 300:
            raise Refused(answer.status, _status(answer.data))
        return answer


def _timeout(*, patient: bool) -> urllib3.Timeout:
    return urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS if patient else PREVIEW_SECONDS)


def _status(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": data.decode(errors="replace")[:300]}


def _pool(access: Access) -> urllib3.HTTPConnectionPool:
    url = urlsplit(access.server)
    options: dict[str, Any] = {"maxsize": 128, "retries": False}
    if access.tls is None:
        return urllib3.HTTPConnectionPool(url.hostname or "", url.port or 80, **options)
    if access.name:
        options |= {"server_hostname": access.name, "assert_hostname": access.name}
    return urllib3.HTTPSConnectionPool(url.hostname or "", url.port or 443, ssl_context=access.tls, **options)
