"""Names and specs that the emulation derives; pure."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import ModuleType

import pytest

from node_agent.agent import __main__ as agent
from node_agent.controller import __main__ as controller
from node_agent.emulation import cleanup, endpoints, folders, hosts, processes, supervisor
from node_agent.health import workload
from node_agent.model.errors import Invalid
from node_agent.model.places import StackPlaces

PLACES = StackPlaces("local-0a1b2c")


@pytest.mark.parametrize("host", ["host-1", "a" * 13, "a" * 14, "b" * 60])
def test_a_port_name_fits_an_interface(host: str) -> None:
    assert len(hosts.port_name(host)) <= 15


def test_short_port_names_are_readable_and_long_ones_differ() -> None:
    assert hosts.port_name("host-1") == "p-host-1"
    assert hosts.port_name("b" * 60) != hosts.port_name("b" * 61)


def test_an_uplink_has_its_mac_for_ever() -> None:
    mac = hosts.uplink_mac(PLACES, "host-1")
    assert mac == hosts.uplink_mac(StackPlaces("local-0a1b2c"), "host-1")
    assert mac != hosts.uplink_mac(PLACES, "host-2") != hosts.uplink_mac(StackPlaces("other-0a1b2c"), "host-2")
    assert int(mac[:2], 16) & 3 == 2  # locally administered, not a group


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("mizar-local-0a1b2c-host-1", "local-0a1b2c"),
        ("mizar-my-own-stack-0a1b2c-a", "my-own-stack-0a1b2c"),
        ("mizar-local-0a1b2c-", None),
        ("mizar-local-host-1", None),
        ("other-local-0a1b2c-host-1", None),
    ],
)
def test_a_stack_is_found_from_a_namespace(name: str, id: str | None) -> None:
    match = cleanup.NETNS_NAME.fullmatch(name)
    assert (match.group(1) if match else None) == id


@pytest.mark.parametrize("id", ["", "-a", "a/b", "..", "A", "a" * 41, "a b"])
def test_an_impossible_id_is_refused(id: str) -> None:
    with pytest.raises(Invalid):
        cleanup.leftovers(id)


def test_a_module_runs_with_this_interpreter_and_project() -> None:
    spec = processes.module(Path("/run/x"), "agent", "node_agent.agent", "--config", "/run/x/agent.json")
    assert spec.argv[1:] == ("-m", "node_agent.agent", "--config", "/run/x/agent.json")
    assert Path(spec.env["PYTHONPATH"], "node_agent", "emulation", "supervisor.py").exists()


def test_a_workloads_spec_lies_in_its_places() -> None:
    spec = endpoints.workload_spec(PLACES, "web", vpc="a", address="10.0.0.2")
    assert spec.folder == PLACES.workload("web") and spec.netns == PLACES.netns_path("web")
    assert spec.argv[-6:] == ("--vpc", "a", "--name", "web", "--address", "10.0.0.2")


@pytest.mark.parametrize("arguments", [[], ["--vpc", "a"], ["--vpc", "a", "--name", "b", "--address"]])
def test_a_workload_refuses_wrong_arguments(arguments: list[str]) -> None:
    assert workload.main(arguments) == 2


@pytest.mark.parametrize("program", [agent, controller, supervisor, workload])
def test_help_says_how_to_start_a_program(program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert program.main(["--help"]) == 0
    name = program.__name__.removesuffix(".__main__")
    assert capsys.readouterr().out.startswith(f"usage: python -m {name} ")


def test_a_private_folder_is_roots_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folders.make_private(tmp_path / "a" / "b")
        folders.make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]


def test_what_is_listed_says_who_runs() -> None:
    def told(*pids: int, folder: str = "/run/mizar/a-123456", removed: bool = False) -> str:
        found = cleanup.Leftovers(id="a-123456", processes=pids, namespaces=(), mounts=(), folder=folder)
        return cleanup.text(found, removed=removed)

    assert told(7, 8).startswith("a-123456: RUNNING: 2 processes, 0 namespaces")
    assert told().startswith("a-123456: does not run: 0 processes")
    assert told(7, removed=True).startswith("a-123456: removed 1 processes")
    assert told(folder="") == "a-123456: nothing left"
