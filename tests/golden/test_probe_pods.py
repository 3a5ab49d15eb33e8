"""What the health gate puts onto a cluster, compared with the objects kept beside this test.

After a wanted change: MIZAR_GOLDEN=write .venv/bin/python -m pytest tests/golden, and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from infra.render.probe_pods import ProbePod, Shared, ground, pod, service

FILE = Path(__file__).parent / "probe_pods.json"
SHARED = Shared(namespace="mizar-health-0a1b2c", image="mizar.local/mizar@sha256:" + "0" * 64, seconds=150)


def test_rendered_as_kept() -> None:
    wanted = ProbePod(name="blue-a-host-1", vpc="blue", subnet="blue-a", node="host-1")
    objects = [*ground(SHARED), service("blue", SHARED), pod(wanted, SHARED)]
    rendered = json.dumps(objects, indent=2) + "\n"
    if os.environ.get("MIZAR_GOLDEN") == "write":
        FILE.write_text(rendered)
    assert rendered == FILE.read_text()
