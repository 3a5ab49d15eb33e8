"""A real API server with its etcd, in a network namespace of their own: for tests of what speaks with one.

About three seconds to start and half a gigabyte; one per session is enough (the fixture `api_server` in conftest).
Nothing else of Kubernetes runs. Everything ends with the process of the tests, even when that is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from infra.render.crds import crds
from node_agent.kernel import links, netns
from node_agent.kernel.commands import run
from node_agent.model.errors import AlreadyExists, MizarError
from node_agent.model.objects import KINDS
from node_agent.model.places import NETNS
from node_agent.model.resources import API_VERSION, RESOURCES
from node_agent.store.base import Store
from node_agent.store.kubernetes_access import from_kubeconfig
from node_agent.store.kubernetes_http import Api

ROOT = Path(__file__).parents[2]
ADDRESS, PORT = "198.18.255.1", 6443
SERVER = f"https://{ADDRESS}:{PORT}"
ETCD = f"http://{ADDRESS}:2379"
PATIENCE = 90.0
KUBEADM = """
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: {port}}}
nodeRegistration: {{name: control-plane}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
certificatesDir: {folder}/pki
controlPlaneEndpoint: {address}:{port}
encryptionAlgorithm: ECDSA-P256
"""
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def programs() -> Path:
    """Folder of etcd, kube-apiserver and kubeadm; built when absent, which takes minutes once per version."""
    if given := os.environ.get("MIZAR_KUBERNETES"):
        return Path(given)
    script = ROOT / "tools/setup/kubernetes.sh"
    where = dict(line.split("=", 1) for line in run([str(script), "--where"], 60).stdout.split())
    folder = Path(where["kubernetes"])
    if not folder.is_dir():
        run([str(script)], 3600)
    return folder


class ApiServer:
    """`netns`: enter it to reach the server. `kubeconfig`: of somebody who may do everything."""

    def __init__(self, folder: Path) -> None:
        self.programs, self._folder = programs(), folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._generation = 0
        self.netns = Path()
        self.kubeconfig = Path()

    def open(self) -> None:
        """Everything made and started, the CRDs served."""
        # Holds the namespace: its path is gone with this process, however that ends.
        path = NETNS / f"mizar-contract-{os.getpid()}"
        netns.create(path)
        try:
            self._start("keeper", ["sleep", "infinity"], path)
        finally:
            netns.delete(path)
        self.netns = Path(f"/proc/{self._running['keeper'].pid}/ns/net")
        with links.opened(self.netns) as here:
            here.ensure_address("lo", f"{ADDRESS}/32")
        self.kubeconfig = self._identities()
        self.start()

    def start(self) -> None:
        """etcd and API server, those that do not run; returns when they serve the CRDs."""
        data = self._folder / f"etcd-{self._generation}"
        self._start(
            "etcd",
            [
                str(self.programs / "etcd"),
                f"--data-dir={data}",
                f"--listen-client-urls={ETCD}",
                f"--advertise-client-urls={ETCD}",
                f"--listen-peer-urls=http://{ADDRESS}:2380",
                "--unsafe-no-fsync",
            ],
            self.netns,
        )
        pki = self._folder / "pki"
        self._start(
            "kube-apiserver",
            [
                str(self.programs / "kube-apiserver"),
                f"--etcd-servers={ETCD}",
                f"--advertise-address={ADDRESS}",
                f"--bind-address={ADDRESS}",
                f"--secure-port={PORT}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=RBAC",
                f"--client-ca-file={pki}/ca.crt",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki}/sa.pub",
                f"--service-account-signing-key-file={pki}/sa.key",
                "--shutdown-delay-duration=0s",
            ],
            self.netns,
        )
        with netns.enter(self.netns), self.api() as api:
            self._until("the API server is ready", lambda: api.ask("look", "GET", "/apis/apiextensions.k8s.io/v1"))
            self._install(api)

    def stop(self, *names: str, signal: int = 9) -> None:
        """End these of "kube-apiserver", "etcd"."""
        for name in names:
            process = self._running.pop(name, None)
            if process is not None:
                process.send_signal(signal)
                process.wait(60)

    def wipe(self) -> None:
        """Another etcd with nothing in it behind the same API server address."""
        self.stop("kube-apiserver", "etcd")
        self._generation += 1
        self.start()

    def signal(self, name: str, number: int) -> None:
        self._running[name].send_signal(number)

    @contextlib.contextmanager
    def api(self) -> Iterator[Api]:
        """Raw requests, from inside the namespace."""
        api = Api(from_kubeconfig(self.kubeconfig), "test")
        try:
            yield api
        finally:
            api.close()

    def close(self) -> None:
        self.stop("kube-apiserver", "etcd", "keeper")

    # --- inside ---

    def _start(self, name: str, argv: list[str], namespace: Path) -> None:
        if name in self._running:
            return
        self._folder.mkdir(exist_ok=True)
        with (self._folder / f"{name}.log").open("ab") as log, netns.enter(namespace):
            self._running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _identities(self) -> Path:
        version = run([str(self.programs / "kubeadm"), "version", "-o", "short"], 60).stdout.strip()
        config = self._folder / "kubeadm.yaml"
        config.write_text(KUBEADM.format(address=ADDRESS, port=PORT, version=version, folder=self._folder))
        for phase in ("certs ca", "certs apiserver", "certs sa", "kubeconfig super-admin"):
            argv = [str(self.programs / "kubeadm"), "init", "phase", *phase.split(), f"--config={config}"]
            run(argv + ([f"--kubeconfig-dir={self._folder}"] if phase.startswith("kubeconfig") else []), 60)
        return self._folder / "super-admin.conf"

    def _install(self, api: Api) -> None:
        """The CRDs, served; also after a restart, since a server is ready before they are."""
        for crd in crds():
            with contextlib.suppress(AlreadyExists):
                self._until("the CRD is taken", lambda crd=crd: api.ask("install CRD", "POST", CRDS, body=crd))
        for resource in RESOURCES.values():
            path = f"/apis/{API_VERSION}/{resource.plural}"
            self._until("the CRDs are served", lambda path=path: api.ask("list", "GET", path))

    def _until(self, what: str, ask: object) -> None:
        assert callable(ask)
        deadline = time.monotonic() + PATIENCE
        while True:
            for name, process in self._running.items():
                assert process.poll() is None, f"{name} ended: {(self._folder / f'{name}.log').read_text()[-2000:]}"
            try:
                ask()
                return
            except AlreadyExists:
                raise
            except MizarError as error:
                assert time.monotonic() < deadline, f"not in time: {what}: {error}"
            time.sleep(0.05)


@contextlib.contextmanager
def running() -> Iterator[ApiServer]:
    with tempfile.TemporaryDirectory(prefix="mizar-apiserver-") as folder:
        server = ApiServer(Path(folder))
        try:
            server.open()
            yield server
        finally:
            server.close()


def empty(store: Store) -> None:
    """Remove every object, whoever holds it."""
    for cls in KINDS.values():
        for obj in store.list(cls):
            for finalizer in obj.meta.finalizers:
                store.drop_finalizer(cls, obj.name, finalizer)
            store.delete(cls, obj.name)
