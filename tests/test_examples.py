"""The examples run against a real server."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from harness import Server

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_does_what_it_says(path: Path, tmp_path: Path) -> None:
    """Each example ends well against a fresh server, and the server has logged its decisions."""
    server = Server(tmp_path / "data", workers=1)
    try:
        command = [sys.executable, str(path), server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        name = httpx.get(f"{server.url}/v1/experiments").json()["experiments"][0]["name"]
        arms = httpx.get(f"{server.url}/v1/experiments/{name}/arms").json()["arms"]
        assert done.stdout
        assert sum(arm["impressions"] for arm in arms) > 0
    finally:
        server.stop()
