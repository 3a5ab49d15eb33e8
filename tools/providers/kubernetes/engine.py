"""Messages to the user, through the engine that started us. Called by `server`; any thread may."""

from __future__ import annotations

import contextlib

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

PLACE = "tools/providers/kubernetes"


class Engine:
    """`address`: host:port, "" for nobody to talk to."""

    def __init__(self, address: str) -> None:
        self._stub: engine_pb2_grpc.EngineStub | None = None
        self.attach(address)

    def attach(self, address: str) -> None:
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address)) if address else None

    def announce(self, version: str) -> None:
        """One line that says who is at work."""
        self.info(
            "", f"kubernetes {version}: the official plugin is not installed; its stand-in does the work ({PLACE})"
        )

    def info(self, urn: str, message: str) -> None:
        self._log(engine_pb2.INFO, urn, message)

    def warn(self, urn: str, message: str) -> None:
        self._log(engine_pb2.WARNING, urn, message)

    def status(self, urn: str, message: str) -> None:
        """Shown while it happens, and not kept."""
        self._log(engine_pb2.INFO, urn, message, passing=True)

    def _log(self, severity: engine_pb2.LogSeverity.ValueType, urn: str, message: str, passing: bool = False) -> None:
        if self._stub is None:
            return
        request = engine_pb2.LogRequest(severity=severity, urn=urn, message=message, ephemeral=passing)
        with contextlib.suppress(grpc.RpcError):  # an engine that is ending reads no more
            self._stub.Log(request)
