"""The resource provider protocol: what the engine asks of the plugin `kubernetes`. Started by `__main__`.

Each call runs in a thread of its own, so waits of many resources run side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from node_agent.model.errors import Invalid, MizarError
from tools.providers.kubernetes import checks, configuration, objects
from tools.providers.kubernetes.cluster import Cluster, Kind, Refused, Unreachable
from tools.providers.kubernetes.compare import Change, another_object, changes, refused_changes, replacing
from tools.providers.kubernetes.configuration import Configuration, NotYet
from tools.providers.kubernetes.differing import answer
from tools.providers.kubernetes.engine import Engine
from tools.providers.kubernetes.objects import KEPT_MANAGER, Object, label, namespace_of
from tools.providers.kubernetes.values import has_unknown, path_of, unwrap, wrap
from tools.providers.kubernetes.waits import NotReady, timeout_of, until_gone, until_ready

LEFT_OUT = "is left out of the stand-in for the kubernetes plugin: docs/adr/0010-stand-in-for-kubernetes.md"
_HINT = (
    'take the fields back with the annotation pulumi.com/patchForce: "true", or leave them to the other manager '
    "by removing them from the program"
)


class Failed(Exception):
    """What the user is told."""


def _told(call: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that were raised on purpose become the engine's, without a traceback."""

    @wraps(call)
    def inner(self: Provider, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(self, request, context)
        except (Failed, Refused, Unreachable, NotYet, MizarError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return inner


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """One per provider resource of a program. `version`: of the wheel, which is the plugin's."""

    def __init__(self, version: str, engine: Engine) -> None:
        self._version, self._engine = version, engine
        self._settings: Configuration | None = None
        self._cluster: Cluster | None = None
        self._why_not = "it is not configured"
        self._cancelled = threading.Event()

    # --- the plugin and its settings ---

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, supports_autonaming_configuration=True)

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=self._version)

    def Attach(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._engine.attach(request.address)
        return Empty()

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._cancelled.set()
        return Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        news, secrets = unwrap(request.news)
        failures = []
        try:
            configuration.read(news)
        except Invalid as error:
            failures = [provider_pb2.CheckFailure(reason=each) for each in error.mistakes]
        except (MizarError, NotYet):
            pass  # a cluster that is not there yet; whoever needs it is told
        return provider_pb2.CheckResponse(inputs=wrap(news, secrets | {("kubeconfig",)}), failures=failures)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        olds, news = unwrap(request.old_inputs)[0] or unwrap(request.olds)[0], unwrap(request.news)[0]
        differing = sorted(name for name in {*olds, *news} if olds.get(name) != news.get(name))
        servers = configuration.server(olds), configuration.server(news)
        other = all(servers) and servers[0] != servers[1]
        replaces = [name for name in differing if name in ("kubeconfig", "context", "cluster", "clusterIdentifier")]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if differing else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=differing,
            replaces=replaces if other else [],
        )

    @_told
    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        given = unwrap(request.args)[0]
        prefix = "kubernetes:config:"
        given = {name.removeprefix(prefix): value for name, value in request.variables.items()} | given
        self._engine.announce(self._version)
        try:
            self._settings = configuration.read(given)
            self._cluster = Cluster(self._settings.access)
        except (NotYet, MizarError) as error:
            self._why_not = str(error)
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, supports_autonaming_configuration=True
        )

    # --- resources ---

    @_told
    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        news, secrets = unwrap(request.news)
        olds = unwrap(request.olds)[0]
        failures = checks.mistakes(request.type, news, LEFT_OUT)
        if not failures:
            proposal = request.autonaming.proposed_name if request.HasField("autonaming") else None
            off = proposal is not None and request.autonaming.mode == checks.NAMING_OFF
            if not off:
                news = objects.named(news, olds, request.name, request.randomSeed, proposal or None)
            try:
                failures = self._place(news, olds)
            except Unreachable:  # nothing to ask: what it would say, `up` will be told
                objects.stay(news, olds)
            news[KEPT_MANAGER] = objects.manager(request.urn, news, olds)
        return provider_pb2.CheckResponse(
            inputs=wrap(news, secrets),
            failures=[provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in failures],
        )

    def _place(self, news: Object, olds: Object) -> list[tuple[str, str]]:
        """Gives the namespace of the provider to what needs one; what is wrong with the kind."""
        if self._cluster is None or self._settings is None or has_unknown([news["apiVersion"], news["kind"]]):
            objects.stay(news, olds)
            return []
        kind = self._cluster.kind(news["apiVersion"], news["kind"], patient=False)
        if kind is None:
            return checks.not_served(news)
        metadata = news.get("metadata")
        if not isinstance(metadata, dict):
            return []
        if kind.namespaced:
            news["metadata"] = {**metadata, "namespace": metadata.get("namespace") or self._settings.namespace}
        elif metadata.get("namespace"):
            return [
                ("metadata.namespace", f"{news['kind']} is in no namespace; it was given {metadata['namespace']!r}")
            ]
        return []

    @_told
    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        olds, old_inputs = unwrap(request.olds)[0], unwrap(request.old_inputs)[0]
        news, secrets = unwrap(request.news)
        ignored = [path_of(each) for each in request.ignoreChanges]
        mutable = self._settings.mutable if self._settings else frozenset()
        by_inputs = changes(old_inputs, news)
        other = another_object(old_inputs or olds, news)
        if other:
            return answer(by_inputs, other, old_inputs, news)
        by_inputs_alone = answer(by_inputs, replacing(news["kind"], by_inputs, mutable), old_inputs, news)
        if self._cluster is None or has_unknown(news):
            return by_inputs_alone
        try:
            kind = self._cluster.kind(news["apiVersion"], news["kind"], patient=False)
            space, name = namespace_of(news), objects.name_of(news)
            live = self._cluster.get(kind, space, name, patient=False) if kind else None
        except Unreachable as error:
            self._engine.warn(request.urn, f"compared with the last known state only: {error}")
            return by_inputs_alone
        if kind is None or live is None or live["metadata"].get("deletionTimestamp"):
            return self._gone(request.urn, by_inputs, old_inputs, news)
        body = objects.sent(objects.held(news, live, ignored))
        try:
            tried = self._try(request.urn, kind, body, self._manager(olds, news))
        except Refused as refused:
            fields = refused_changes(refused.causes)
            if fields is None:
                raise Failed(f"{label(news)}: {refused}") from refused
            return answer(by_inputs, [path_of(each) for each in fields], old_inputs, news)
        found = changes(live, tried)
        if found and not by_inputs:
            self._tell_drift(request.urn, found, objects.secrets_of(news, secrets))
        return answer(found, replacing(news["kind"], found, mutable), old_inputs, news)

    def _gone(self, urn: str, by_inputs: list[Change], old_inputs: Object, news: Object) -> Any:
        # A job may be made so that the cluster removes it when it is done.
        if not by_inputs and news["kind"] == "Job" and "ttlSecondsAfterFinished" in news.get("spec", {}):
            return answer([], [], old_inputs, news)
        self._engine.info(urn, f"{label(news)} is not in the cluster any more: it will be made again")
        return answer(by_inputs, [("metadata", "name")], old_inputs, news)

    def _tell_drift(self, urn: str, found: Iterable[Change], secrets: Iterable[Any]) -> None:
        for told in checks.drift(found, secrets):
            self._engine.info(urn, f"changed in the cluster: {told}")

    @_told
    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        inputs, secrets = unwrap(request.properties)
        secrets = objects.secrets_of(inputs, secrets)
        manager = self._manager({}, inputs)
        if request.preview:
            tried = None if has_unknown(inputs) else self._tried(request.urn, inputs, manager)
            return provider_pb2.CreateResponse(properties=wrap(objects.planned(inputs, tried, manager), secrets))
        cluster, settings = self._ready()
        kind = self._served(cluster, inputs)
        there = cluster.get(kind, namespace_of(inputs), objects.name_of(inputs))
        if there is not None and there["metadata"].get("deletionTimestamp"):
            left = until_gone(cluster, kind, there, timeout_of(inputs, request.timeout), self._cancelled)
            if left:
                raise Failed(f"create {label(inputs)}: the one before it is being deleted: {left}")
        elif there is not None and not settings.adopt and not checks.applied_by(there, manager):
            raise Failed(
                f"create {label(inputs)}: it exists. Import it (option import_), or set upsertExistingObjects of the "
                "provider"
            )
        live = self._apply(cluster, kind, objects.sent(inputs), manager)
        live = self._await(request, context, cluster, kind, live, inputs, secrets)
        return provider_pb2.CreateResponse(
            id=objects.id_of(live), properties=wrap(objects.outputs(live, inputs, manager), secrets)
        )

    @_told
    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        inputs, secrets = unwrap(request.news)
        olds = unwrap(request.olds)[0]
        secrets, manager = objects.secrets_of(inputs, secrets), self._manager(olds, inputs)
        if request.preview:
            tried = None if has_unknown(inputs) else self._tried(request.urn, inputs, manager)
            kept = objects.outputs(tried, inputs, manager) if tried else {**olds, **inputs}
            return provider_pb2.UpdateResponse(properties=wrap(kept, secrets))
        if self._settings and self._settings.skip_unreachable and not self._reachable():
            self._engine.warn(request.urn, f"{label(inputs)} is left as it is: its cluster cannot be reached")
            return provider_pb2.UpdateResponse(properties=request.olds)
        cluster, _ = self._ready()
        kind = self._served(cluster, inputs)
        if request.ignoreChanges:
            live = cluster.get(kind, namespace_of(inputs), objects.name_of(inputs)) or {}
            inputs = objects.held(inputs, live, [path_of(each) for each in request.ignoreChanges])
        live = self._apply(cluster, kind, objects.sent(inputs), manager)
        live = self._await(request, context, cluster, kind, live, inputs, secrets)
        return provider_pb2.UpdateResponse(properties=wrap(objects.outputs(live, inputs, manager), secrets))

    @_told
    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        state, inputs = unwrap(request.properties)[0], unwrap(request.inputs)[0]
        secrets = unwrap(request.inputs)[1]
        version, name = objects.kind_of_token(request.type)
        version, name = state.get("apiVersion") or version, state.get("kind") or name
        if self._cluster is None or not self._reachable():
            if self._settings and self._settings.drop_unreachable:
                return provider_pb2.ReadResponse()
            raise Failed(f"read {name} {request.id}: {self._why_not}")
        kind = self._cluster.kind(version, name)
        space, _, object_name = request.id.rpartition("/")
        space = space or (self._settings.namespace if self._settings else "")
        live = self._cluster.get(kind, space, object_name) if kind else None
        if not live:
            return provider_pb2.ReadResponse()
        inputs = objects.pruned(objects.read_as(live, inputs), inputs) if inputs else objects.imported(live)
        inputs[KEPT_MANAGER] = manager = self._manager(state, inputs) or objects.manager(request.urn, inputs, state)
        secrets = objects.secrets_of(live, secrets)
        return provider_pb2.ReadResponse(
            id=objects.id_of(live),
            inputs=wrap(inputs, secrets),
            properties=wrap(objects.outputs(live, inputs, manager), secrets),
        )

    @_told
    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        olds = unwrap(request.properties)[0]
        if self._settings and self._settings.drop_unreachable and not self._reachable():
            self._engine.warn(request.urn, f"{label(olds)} is dropped from the state: its cluster cannot be reached")
            return Empty()
        cluster, _ = self._ready()
        kind = cluster.kind(olds["apiVersion"], olds["kind"])
        live = cluster.get(kind, namespace_of(olds), objects.name_of(olds)) if kind else None
        if kind is None or live is None or not checks.same(live, olds):
            return Empty()  # gone already, or another one in its place
        wanted = objects.annotation(live, objects.PROPAGATION).lower()
        cluster.delete(kind, live, objects.PROPAGATIONS.get(wanted, "Foreground"))
        if objects.is_set(live, objects.SKIP_AWAIT):
            return Empty()
        left = until_gone(cluster, kind, live, timeout_of(olds, request.timeout), self._cancelled)
        if left:
            raise Failed(f"delete {label(olds)}: {left}")
        return Empty()

    @_told
    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise Failed(f"{request.tok} {LEFT_OUT}")

    @_told
    def Construct(self, request: Any, context: grpc.ServicerContext) -> Any:
        raise Failed(f"{request.type} {LEFT_OUT}")

    # --- inside ---

    def _ready(self) -> tuple[Cluster, Configuration]:
        if self._cluster is None or self._settings is None:
            raise Failed(f"the Kubernetes provider has no cluster: {self._why_not}")
        return self._cluster, self._settings

    def _reachable(self) -> bool:
        if self._cluster is None:
            return False
        try:
            self._cluster.ask("GET", "/version")
        except Unreachable as error:
            self._why_not = str(error)
            return False
        return True

    def _manager(self, olds: Object, news: Object) -> str:
        """What Check chose; a state of the official plugin has its own."""
        return objects.annotation(news, objects.MANAGER) or str(olds.get(KEPT_MANAGER) or news.get(KEPT_MANAGER) or "")

    def _served(self, cluster: Cluster, inputs: Object) -> Kind:
        """Also a moment after its CRD was made."""
        kind = checks.patiently(lambda: cluster.kind(inputs["apiVersion"], inputs["kind"]), self._cancelled)
        if kind is None:
            raise Failed(
                f"create {label(inputs)}: the cluster does not serve {inputs['apiVersion']} {inputs['kind']}: is a "
                "CustomResourceDefinition missing, or depends_on of it?"
            )
        if kind.namespaced and not namespace_of(inputs) and self._settings:
            inputs["metadata"] = {**inputs["metadata"], "namespace": self._settings.namespace}
        return kind

    def _force(self, body: Object) -> bool:
        return objects.is_set(body, objects.FORCE) or bool(self._settings and self._settings.force)

    def _apply(self, cluster: Cluster, kind: Kind, body: Object, manager: str) -> Object:
        try:
            return cluster.apply(kind, body, manager, force=self._force(body))
        except Refused as refused:
            if refused.conflicts:
                raise Failed(f"apply {label(body)}: {checks.conflicts(refused)}; {_HINT}") from refused
            raise Failed(f"apply {label(body)}: {refused}") from refused

    def _try(self, urn: str, kind: Kind, body: Object, manager: str) -> Object:
        """What an apply would make of it. A conflict is told here, and fails only when it is real."""
        assert self._cluster is not None
        try:
            return self._cluster.apply(kind, body, manager, force=self._force(body), dry=True, patient=False)
        except Refused as refused:
            if not refused.conflicts:
                raise
            self._engine.warn(urn, f"`up` will fail: {checks.conflicts(refused)}; {_HINT}")
            return self._cluster.apply(kind, body, manager, force=True, dry=True, patient=False)

    def _tried(self, urn: str, inputs: Object, manager: str) -> Object | None:
        """A dry run for a preview; None when there is nothing to run it with: no cluster, kind or namespace yet."""
        if self._cluster is None:
            return None
        try:
            kind = self._cluster.kind(inputs["apiVersion"], inputs["kind"], patient=False)
            if kind is None:
                return None
            return self._try(urn, kind, objects.sent(inputs), manager)
        except Unreachable:
            return None
        except Refused as refused:
            # The namespace may be part of the same preview; a replacement may be what the refusal is about.
            if refused.code == 404 or refused_changes(refused.causes) is not None:
                return None
            raise Failed(f"{label(inputs)}: {refused}") from refused

    def _await(
        self, request: Any, context: grpc.ServicerContext, cluster: Cluster, kind: Kind, live: Object, inputs: Object,
        secrets: Any,
    ) -> Object:  # fmt: skip
        """The ready object. Else ends the call with one that exists: the next `up` goes on with it."""
        try:
            return until_ready(
                cluster, kind, live, timeout_of(inputs, request.timeout), self._cancelled,
                lambda told: self._engine.status(request.urn, told),
            )  # fmt: skip
        except NotReady as error:
            details = provider_pb2.ErrorResourceInitFailed(
                id=objects.id_of(live),
                properties=wrap(objects.outputs(error.live, inputs, self._manager({}, inputs)), secrets),
                reasons=error.reasons,
                inputs=wrap(inputs, secrets),
            )
            status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
            status.details.add().Pack(details)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
            raise
