"""The last words of `make up`: whole numbers, however Pulumi says them, and their words."""

from __future__ import annotations

import runpy
from typing import Any

from tests.engine.engine_env import ROOT


def text(told: dict[str, Any]) -> str:
    lines = runpy.run_path(str(ROOT / "tools/setup/summary.py"))["lines"]
    return "\n".join(lines(told))


def test_large_numbers_and_single_things() -> None:
    told = text(
        {
            "stackId": "local-123456",
            "hosts": [{"name": "host-1", "address": "198.18.0.11", "mode": "generic"}],
            "vpcs": [{"name": "red", "vni": 12345678.0, "cidr": "10.20.0.0/16", "set": ["host-1"]}],
            "subnets": [{"name": "red-a", "vpc": "red", "cidr": "10.20.1.0/24"}],
            "endpoints": [{"vpc": "red", "subnet": "red-a"}],
            "services": [
                {"name": "web", "vpc": "red", "vip": "10.20.9.1", "ports": [{"protocol": "tcp", "port": 80.0}],
                 "backends": ["a"]}
            ],
            "health": {"healthy": True, "probes": 1.0, "pairs": 1234567.0},
        }
    )  # fmt: skip
    for words in (
        "VNI 12345678,",
        "1 endpoint\n",
        "tcp 80: 1 endpoint behind it",
        "1 probe over 1234567 pairs of endpoints on 1 host",
    ):
        assert words in told
    assert told.endswith("1 host")
