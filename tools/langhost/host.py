"""The Python language host: starts Pulumi programs and Python plugins for the Pulumi engine.

Started by the pulumi-language-python launcher beside the engine; the engine passes its address as the last argument
and reads our port from the first line of stdout. Why the project has one: docs/adr/0002-engine-and-language-host.md.
Nothing here may print to stdout after that line: the engine shows it to the user.
"""

from __future__ import annotations

import importlib.metadata
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import grpc
from google.protobuf import empty_pb2, json_format
from interpreter import Interpreter
from orphan import exit_with_parent
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

# Keep equal to run_program.TOLD_THE_USER; importing that file would import the whole SDK into the host.
_TOLD_THE_USER = 32
# One plugin holds a thread for as long as it runs. Threads are made when needed.
_THREADS = 64
_RUN_PROGRAM = str(Path(__file__).resolve().parent / "run_program.py")


class Children:
    """The processes this host started, so that none outlives it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def start(self, context: Any, argv: list[str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a process that ends, at the latest, when the engine gives up the call it was started for."""
        child: subprocess.Popen[bytes] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **how)
        with self._lock:
            self._running.add(child)
        context.add_callback(lambda: self._ended(child))
        return child

    def _ended(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(child)
        child.terminate()  # does nothing to a process that was already waited for

    def terminate(self) -> None:
        """End all that still run."""
        with self._lock:
            for child in self._running:
                child.terminate()


def _interpreter(info: Any) -> Interpreter:
    return Interpreter.of(info.root_directory, json_format.MessageToDict(info.options))


def _usable_interpreter(info: Any, context: Any) -> Interpreter:
    """The interpreter, or the end of the call with the reason why there is none."""
    interpreter = _interpreter(info)
    if problem := interpreter.problem():
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
    return interpreter


class PythonHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The calls that the engine makes for up, preview, refresh, destroy, policy packs and plugins by path.

    Code generation and packaging are left unimplemented: the engine then says so.
    """

    def __init__(self, engine: str, children: Children) -> None:
        self._engine = engine
        self._children = children

    def Handshake(self, request: Any, context: Any) -> Any:
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def Cancel(self, request: Any, context: Any) -> Any:
        # Programs are ended with the call they run in (Children.start): the engine lets them finish what they began.
        return empty_pb2.Empty()

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        plugins = _usable_interpreter(request.info, context).plugins()
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(
                    name=plugin.name,
                    kind="resource",
                    version=f"v{plugin.version.removeprefix('v')}" if plugin.version else "",
                    server=plugin.server,
                )
                for plugin in plugins
            ]
        )

    def About(self, request: Any, context: Any) -> Any:
        told = _usable_interpreter(request.info, context).describe()
        return language_pb2.AboutResponse(executable=told.executable, version=told.version)

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        told = _usable_interpreter(request.info, context).describe()
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version)
                for name, version in sorted(told.distributions.items())
            ]
        )

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        # `make setup` makes the environment from exact pins; a second way to make it would make another one.
        problem = _interpreter(request.info).problem()
        message = problem or "The Python environment is made by 'make setup'; nothing to install."
        yield language_pb2.InstallDependenciesResponse(stdout=f"{message}\n".encode())
        if problem:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)

    def Run(self, request: Any, context: Any) -> Any:
        interpreter = _interpreter(request.info)
        if problem := interpreter.problem():
            return language_pb2.RunResponse(error=problem)
        call = {
            "monitor": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "stack": request.stack,
            "organization": request.organization,
            "root_directory": request.info.root_directory,
            "working_directory": request.pwd or request.info.program_directory,
            "program": str(Path(request.info.program_directory, request.info.entry_point)),
            "args": list(request.args),
            "parallel": request.parallel,
            "dry_run": request.dryRun,
        }
        env = interpreter.environment()
        # By environment, not by argument: other users of the machine can read a command line.
        env["PULUMI_CONFIG"] = json.dumps(dict(request.config))
        env["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(list(request.configSecretKeys))
        argv = [interpreter.python, "-u", _RUN_PROGRAM, json.dumps(call)]
        # The program's output goes where ours goes: to the engine, which shows it.
        code = self._children.start(context, argv, cwd=request.info.program_directory, env=env).wait()
        if code == _TOLD_THE_USER:
            return language_pb2.RunResponse(bail=True)
        if code != 0:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return language_pb2.RunResponse(error=f"the program ended with {how}")
        return language_pb2.RunResponse()

    def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:
        interpreter = _usable_interpreter(request.info, context)
        directory = request.info.program_directory
        argv = [interpreter.python, "-u"]
        if request.kind == "analyzer":  # a policy pack: the SDK's module serves it
            argv += ["-m", "pulumi.policy", *request.args, directory]
        else:
            argv += [directory, *request.args]
        env = interpreter.environment()
        env.update(setting.partition("=")[::2] for setting in request.env)
        child = self._children.start(
            context, argv, cwd=request.pwd or directory, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for kind, line in _lines(child):
            answer = language_pb2.RunPluginResponse()
            setattr(answer, kind, line)
            yield answer
        yield language_pb2.RunPluginResponse(exitcode=child.wait())


def _lines(child: subprocess.Popen[bytes]) -> Iterator[tuple[str, bytes]]:
    """Both outputs of a process, line by line as they come, until both are closed."""
    lines: queue.Queue[tuple[str, bytes]] = queue.Queue()

    def read(kind: str, pipe: IO[bytes]) -> None:
        for line in pipe:
            lines.put((kind, line))
        lines.put((kind, b""))

    assert child.stdout is not None
    assert child.stderr is not None
    for kind, pipe in (("stdout", child.stdout), ("stderr", child.stderr)):
        threading.Thread(target=read, args=(kind, pipe), daemon=True).start()
    still_open = 2
    while still_open:
        kind, line = lines.get()
        if line:
            yield kind, line
        else:
            still_open -= 1


def main() -> None:
    """Serve until the engine ends us."""
    children = Children()
    exit_with_parent(before=children.terminate)
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(max_workers=_THREADS), options=unlimited)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(PythonHost(sys.argv[-1], children), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:  # the engine's way to end its hosts; a traceback would be shown to the user
        server.stop(grace=None)
        children.terminate()


if __name__ == "__main__":
    main()
