from __future__ import annotations

from typing import Any

import pytest

from node_agent.store.kubernetes_exec import exit_code

CODE = {"reason": "ExitCode", "message": "7"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "Success"}, 0),
        ({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{}, CODE]}}, 7),
        ({"status": "Failure", "reason": "InternalError", "message": "no such file", "details": {}}, None),
        ({"status": "Failure", "details": None}, None),
        ({}, None),
    ],
)
def test_the_exit_code_that_the_server_tells(status: dict[str, Any], code: int | None) -> None:
    assert exit_code(status) == code
