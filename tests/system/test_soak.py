"""A server under load for a while: its memory stays, and nothing fails; twenty minutes of it are a benchmark's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.torture
def test_memory_stays_flat_under_load() -> None:
    """Two minutes with a log that is trimmed all the while: workers grow by less than a tenth, no answer fails."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks/soak.py"),
        "--json",
        "--minutes",
        "2",
        "--rate",
        "100",
        "--every",
        "2",
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True).stdout
    figures = {row["name"]: row["value"] for row in map(json.loads, said.splitlines())}
    assert figures["soak_errors"] == 0
    assert figures["soak_worker_growth"] < 1.1
