import json
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.cni import conflist
from node_agent.model.config import CniConfig
from node_agent.model.errors import Permanent


@pytest.fixture
def config(tmp_path: Path) -> CniConfig:
    plugin = tmp_path / "built"
    plugin.write_bytes(b"program")
    return CniConfig(
        conflist=str(tmp_path / "net.d" / "10-mizar.conflist"),
        plugin=str(plugin),
        programs=str(tmp_path / "bin"),
        vpc="blue",
        subnet="front",
        chained=("portmap",),
        host_vpc="blue",
        reserved=(443,),
    )


def test_the_list_says_where_the_agent_is_and_what_follows(config: CniConfig) -> None:
    assert json.loads(conflist.text(config, "/run/mizar/agent.sock")) == {
        "cniVersion": "1.1.0",
        "name": "mizar",
        "plugins": [
            {
                "type": "mizar",
                "socket": "/run/mizar/agent.sock",
                "capabilities": {
                    "io.kubernetes.cri.pod-annotations": True,
                    "bandwidth": True,
                    "portMappings": True,
                },
                "hostVpc": "blue",
                "reserved": [443],
                "vpc": "blue",
                "subnet": "front",
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"},
        ],
    }


def test_nothing_is_asked_about_host_ports_where_nobody_maps_them(config: CniConfig) -> None:
    (ours,) = json.loads(conflist.text(replace(config, chained=()), "/s"))["plugins"]
    assert "portMappings" not in ours["capabilities"]


def test_bounds_are_left_to_a_plugin_for_them(config: CniConfig) -> None:
    ours, theirs = json.loads(conflist.text(replace(config, chained=("bandwidth",)), "/s"))["plugins"]
    assert "bandwidth" not in ours["capabilities"]
    assert theirs == {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def test_the_program_comes_first_and_the_list_last(config: CniConfig, tmp_path: Path) -> None:
    assert conflist.install(config, "/s") == [str(tmp_path / "bin" / "mizar"), config.conflist]
    assert (tmp_path / "bin" / "mizar").read_bytes() == b"program"
    assert (tmp_path / "bin" / "mizar").stat().st_mode & 0o777 == 0o755
    assert json.loads(Path(config.conflist).read_text())["plugins"][0]["socket"] == "/s"


def test_without_a_program_there_is_no_list(config: CniConfig) -> None:
    Path(config.plugin).unlink()
    with pytest.raises(Permanent):
        conflist.install(config, "/s")
    assert not Path(config.conflist).exists()


def test_what_is_in_place_is_not_written_again(config: CniConfig) -> None:
    conflist.install(config, "/s")
    assert conflist.install(config, "/s") == []
    assert conflist.install(config, "/other") == [config.conflist]


def test_files_of_others_stay_and_ours_leave_nothing_aside(config: CniConfig) -> None:
    folder = Path(config.conflist).parent
    folder.mkdir()
    (folder / "05-other.conflist").write_text("theirs")
    conflist.install(config, "/s")
    assert sorted(path.name for path in folder.iterdir()) == ["05-other.conflist", "10-mizar.conflist"]
    assert (folder / "05-other.conflist").read_text() == "theirs"


def test_a_folder_that_cannot_be_written_is_an_error_with_its_path(config: CniConfig, tmp_path: Path) -> None:
    (tmp_path / "net.d").write_text("no folder")
    with pytest.raises(Permanent, match="10-mizar"):
        conflist.install(config, "/s")
