import pytest

from node_agent.bench.__main__ import main


def test_the_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert "tcp1-gso" in told and "bouncer-native-hot" in told and "memory" in told


def test_all_wrong_arguments_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rounds", "0", "--seconds", "1000", "--only", "nothing"])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "--rounds: 0" in told and "--seconds: 1000" in told and "--only: 'nothing'" in told
