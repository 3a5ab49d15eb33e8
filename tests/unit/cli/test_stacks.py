"""Which stack `mizar` asks: the one that was named, this project's, the only one that runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node_agent.cli import main, stacks
from node_agent.cli.running import Process
from node_agent.model import places
from node_agent.model.errors import Permanent
from node_agent.model.places import stack_id

CLONE = Path("/a/clone")
MINE = stack_id("local", CLONE)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /run/mizar."""
    for module in (places, stacks):
        monkeypatch.setattr(module, "RUN", tmp_path)
    return tmp_path


def up(run: Path, id_: str, *, alive: bool = True) -> None:
    """A stack's files; its controller is this very process, or nobody."""
    folder = run / id_ / "controller"
    folder.mkdir(parents=True)
    (run / id_ / "store.db").touch()
    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    (folder / "controller.pid").write_text(f"{os.getpid()} {started if alive else 1}")


def chosen(identity: str = "", name: str = "") -> str:
    return stacks.choose(identity, name, root=CLONE).id


def test_this_projects_stack_comes_before_others(run: Path) -> None:
    for one in (MINE, "other-123456", "third-123456"):
        up(run, one)
    assert chosen() == MINE
    assert chosen("other-123456") == "other-123456"


def test_also_when_nothing_of_it_lives(run: Path) -> None:
    up(run, MINE, alive=False)
    up(run, "other-123456")
    assert chosen() == MINE


def test_a_stack_by_its_name(run: Path) -> None:
    up(run, MINE)
    up(run, stack_id("dev", CLONE))
    assert chosen(name="dev") == stack_id("dev", CLONE)
    with pytest.raises(Permanent, match=f"find stack gce: this project's has the id gce-.*there are .*{MINE}"):
        chosen(name="gce")


def test_else_the_only_one_that_runs(run: Path) -> None:
    up(run, "other-123456")
    up(run, "third-123456", alive=False)
    assert chosen() == "other-123456"


def test_no_guess_among_several(run: Path) -> None:
    for one in ("other-123456", "third-123456"):
        up(run, one)
    up(run, "dead-123456", alive=False)
    listed = r"there are dead-123456 \(does not run\), other-123456, third-123456: add --stack-id ID"
    with pytest.raises(Permanent, match=listed):
        chosen()
    with pytest.raises(Permanent, match="find stack fourth: there are dead-123456"):
        chosen("fourth")


@pytest.mark.usefixtures("run")
def test_no_stack_at_all() -> None:
    with pytest.raises(Permanent, match="there is none on this machine: `make up` brings one up"):
        chosen()


def test_the_environment_names_one_unless_the_command_line_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def choose(identity: str, name: str) -> None:
        asked.append((identity, name))
        raise Permanent("enough")

    monkeypatch.setattr(stacks, "choose", choose)
    monkeypatch.setenv("MIZAR_STACK_ID", "one-123456")
    for arguments in ([], ["--stack-id", "two-123456"], ["--stack", "dev"]):
        assert main.main(["status", *arguments]) == 1
    assert asked == [("one-123456", ""), ("two-123456", ""), ("", "dev")]


def test_a_line_for_each_stack_or_what_to_do() -> None:
    ran = (Process(what="controller", host="", pid=7), *(Process(what="agent", host=f"h{n}", pid=n) for n in (8, 9)))
    one, two = (stacks.Stack(id=f"local-{n}", folder=f"/run/mizar/local-{n}", processes=ran * (2 - n)) for n in (1, 2))
    assert stacks.text([one, two]).splitlines() == [
        "local-1  /run/mizar/local-1  1 controller, 2 agents",
        "local-2  /run/mizar/local-2  does not run",
    ]
    assert "make up" in stacks.text([])


def test_a_stack_whose_objects_a_cluster_keeps_is_one_too(run: Path) -> None:
    id_ = stack_id("local-k8s", CLONE)
    kubelet = run / id_ / "hosts" / "host-1" / "node" / "kubelet"
    kubelet.mkdir(parents=True)
    (run / id_ / "kubeconfig").touch()
    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    (kubelet / "kubelet.pid").write_text(f"{os.getpid()} {started}")
    assert chosen(name="local-k8s") == id_
    assert chosen() == id_, "the only one that runs"
    (told,) = stacks.found()
    assert told.processes == (Process(what="kubelet", host="host-1", pid=os.getpid()),), "no agent of ours: it is a pod"
