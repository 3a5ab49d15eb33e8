"""Requests to the API server over HTTP/1.1, and what its refusals mean to us. The only caller of urllib3.

Used by `kubernetes` (verbs) and `kubernetes_watch` (streams). Why no larger library: docs/adr/0006-kubernetes-store.md.
Any thread may use an `Api`; connections are kept and shared.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError

from node_agent.model.codec import Plain
from node_agent.model.errors import AlreadyExists, Conflict, Invalid, MizarError, NotFound, Permanent, Temporary
from node_agent.store.kubernetes_access import Access

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
VERB_CONNECTIONS = 8
"""At most, and kept: when many ask at once, waiting for one of these is quicker than to shake hands on more."""
STREAM_CONNECTIONS = 256  # kept when idle; more are opened when needed

# A peer that died without a word is noticed within half a minute, also on a stream that nobody writes to.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
]


_PLACEHOLDER = re.compile(r'^Invalid value: "(string|object|integer|array)": ')


class Expired(Temporary):
    """The revision that a watch would go on from is not known any more, or not yet: it must list again."""


class Broken(Temporary):
    """A stream ended in the middle."""


class Api:
    """`manager`: the name under which the API server records what we write."""

    def __init__(self, access: Access, manager: str) -> None:
        self._access, self._manager = access, manager
        self._verbs = _pool(access, VERB_CONNECTIONS, block=True)
        self._streams = _pool(access, STREAM_CONNECTIONS)

    def ask(
        self, what: str, method: str, path: str, query: Mapping[str, str] | None = None, body: object = None
    ) -> Plain:
        """The answer's JSON. `what` opens the messages of errors; a list as body is a JSON patch.

        Raises what `refusal` makes, and Temporary when there is no answer: then a write may have been done or not.
        """
        headers = {"Content-Type": "application/json-patch+json" if isinstance(body, list) else "application/json"}
        query = dict(query or {})
        if method not in ("GET", "DELETE"):
            query["fieldManager"] = self._manager
        text = None if body is None else json.dumps(body).encode()
        data = self._send(what, method, _url(path, query), headers if text else {}, text)
        found = _parsed(data)
        if not isinstance(found, dict):
            raise Temporary(f"{what}: {self._access.server} answered {data[:100]!r}, which is no JSON object")
        return found

    def text(self, what: str, path: str) -> str:
        """What the server has there, which need not be JSON: its metrics. Raises as `ask` does."""
        return self._send(what, "GET", path, {}, None).decode()

    @contextlib.contextmanager
    def stream(self, what: str, path: str, query: Mapping[str, str], silence: float | None) -> Iterator[Stream]:
        """The answer of a watch or a log, closed afterwards. `silence`: seconds after which a stream that says nothing
        is broken, None for never.

        Raises what `refusal` makes, and Temporary when there is no answer.
        """
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=silence)
        try:
            answer = self._streams.urlopen(
                "GET",
                _url(path, query),
                headers=self._headers(),
                timeout=timeout,
                preload_content=False,
                redirect=False,
            )
        except HTTPError as error:
            raise Temporary(f"{what}: {self._unreached(error)}") from error
        stream = Stream(what, answer)
        try:
            if answer.status >= 300:
                raise refusal(what, answer.status, answer.data)
            yield stream
        except HTTPError as error:
            raise Broken(f"{what}: {error}") from error
        finally:
            stream.done()

    def close(self) -> None:
        """Close the idle connections; streams are closed by whoever reads them."""
        self._verbs.close()
        self._streams.close()

    # --- inside ---

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json, */*;q=0.5", "User-Agent": self._manager}
        if token := self._access.token():
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _send(self, what: str, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        def once() -> urllib3.BaseHTTPResponse:
            return self._verbs.urlopen(
                method,
                url,
                body=body,
                headers={**self._headers(), **headers},
                redirect=False,
                pool_timeout=int(ANSWER_SECONDS),
            )

        try:
            try:
                answer = once()
            except ProtocolError:
                # The server may close a kept connection in the moment in which we use it. Only a read can be repeated.
                if method != "GET":
                    raise
                answer = once()
        except HTTPError as error:
            raise Temporary(f"{what}: {self._unreached(error)}") from error
        if answer.status >= 300:
            raise refusal(what, answer.status, answer.data)
        return answer.data

    def _unreached(self, error: HTTPError) -> str:
        cause: object = error
        if isinstance(error, NewConnectionError) and isinstance(error.__cause__, OSError):
            cause = error.__cause__.strerror or error
        return f"cannot reach {self._access.server}: {cause}"


class Stream:
    """An answer's lines as they come. `stop` may be called by any thread and ends `events` at once."""

    def __init__(self, what: str, answer: urllib3.BaseHTTPResponse) -> None:
        self._what, self._answer = what, answer

    def events(self) -> Iterator[Plain]:
        """One {"type", "object"} after the other, until the server ends the stream. Raises Broken."""
        for line in self.lines():
            if not line.endswith(b"\n"):
                return  # the server ended in the middle of it
            event = _parsed(line)
            if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
                raise Broken(f"{self._what}: {line[:100]!r} is no event")
            yield event

    def lines(self) -> Iterator[bytes]:
        """With their ends, which the last one may not have."""
        rest = b""
        for chunk in self._answer.stream(1 << 16, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it ended by itself in this very moment
            self._answer.shutdown()

    def done(self) -> None:
        """Back with the connection, if it can be used again; else close it."""
        if self._answer.closed:
            self._answer.release_conn()
        else:
            self._answer.close()


def refusal(what: str, code: int, data: bytes | Plain) -> MizarError:
    """The error of an answer with this HTTP code; `data`: a Status object, or whatever came instead. Pure."""
    status = data if isinstance(data, dict) else _parsed(data)
    if not isinstance(status, dict):
        text = bytes(data).decode(errors="replace").strip()[:200] if not isinstance(data, dict) else ""
        status = {"message": text}
    reason, message = status.get("reason", ""), status.get("message") or f"HTTP {code}"
    details = status.get("details") or {}
    causes = details.get("causes") or []
    told = f"{what}: {message}"
    if code == 410 or any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes):
        return Expired(told)
    if code == 404:
        # Without the name of an object it is the kind that is not known.
        return NotFound(told) if details.get("name") else Temporary(f"{told}; are the CRDs of Mizar installed?", 2.0)
    if code == 409:
        return AlreadyExists(f"{what}: it exists") if reason == "AlreadyExists" else Conflict(told)
    if code == 422 and not causes:
        return Conflict(f"{what}: it is another object by now")  # a test in our patch failed, and we test uids only
    if code == 422:
        # The API server names the type where a CEL rule refused the value; the rule's message has the value.
        mistakes = [(cause.get("field"), _PLACEHOLDER.sub("", cause.get("message", ""))) for cause in causes]
        return Invalid(
            f"{what}: {message if field == '<nil>' else f'{field}: {message}'}" for field, message in mistakes
        )
    if code == 429 or code >= 500:
        return Temporary(told, float(details.get("retryAfterSeconds") or 1.0))
    return Permanent(told)


def _pool(access: Access, connections: int, *, block: bool = False) -> urllib3.HTTPConnectionPool:
    url = urlsplit(access.server)
    options: dict[str, Any] = {
        "maxsize": connections,
        "block": block,
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
        "retries": False,
        "socket_options": _SOCKET_OPTIONS,
    }
    host = url.hostname or ""
    if access.tls is None:
        return urllib3.HTTPConnectionPool(host, url.port or 80, **options)
    if access.name:
        options |= {"server_hostname": access.name, "assert_hostname": access.name}
    return urllib3.HTTPSConnectionPool(host, url.port or 443, ssl_context=access.tls, **options)


def _url(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
