"""Stacks whose agents, controller and workloads are processes of this computer (`kinds`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from node_agent.cli import execute, tail
from node_agent.cli.kinds import Log
from node_agent.cli.running import CONTROLLER, Process, Running, living, on_hosts
from node_agent.metrics import server
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import StackPlaces


class OnComputer:
    def __init__(self, places: StackPlaces) -> None:
        self._places = places

    def store(self) -> str:
        return f"sqlite:{self._places.store}"

    def processes(self) -> Sequence[Process]:
        pid = living(self._places.controller / "controller.pid")
        controller = [Process(what=CONTROLLER, host="", pid=pid)] if pid else []
        return [*controller, *on_hosts(self._places.root, "agent", "agent.pid")]

    def running(self) -> Mapping[str, Running]:
        return {one.host or one.what: Running(pid=one.pid) for one in self.processes()}

    def objects(self, agent: AgentConfig) -> Path:
        return Path(agent.bpf_objects)

    def controller_config(self) -> str:
        path = self._places.controller / "controller.json"
        try:
            return path.read_text()
        except OSError as error:
            raise Permanent(f"read {path}: {error.strerror}") from error

    def controller_figures(self) -> str:
        return server.fetch(self._places.controller / server.SOCKET)

    def logs(self) -> Mapping[str, Log]:
        hosts = self._places.root / "hosts"
        files = {CONTROLLER: self._places.controller / "controller.log"}
        if hosts.is_dir():
            files.update({folder.name: self._places.host(folder.name).log for folder in sorted(hosts.iterdir())})
        return {name: _log(file) for name, file in files.items() if file.exists()}

    def workload_log(self, endpoint: NetworkEndpoint) -> Log:
        file = self._places.workload(endpoint.spec.workload) / "workload.log"
        if not file.exists():
            raise Permanent(f"read log of {endpoint.spec.workload or endpoint.name}: there is no {file}")
        return _log(file)

    def execute(self, endpoint: NetworkEndpoint, argv: Sequence[str]) -> int:
        return execute.replace(self._places.netns_path(endpoint.spec.workload), argv)

    def captured(self, endpoint: NetworkEndpoint, argv: Sequence[str]) -> dict[str, Any]:
        return execute.capture(self._places.netns_path(endpoint.spec.workload), argv)


def _log(file: Path) -> Log:
    return functools.partial(tail.lines, file)
