"""The OpenAPI document holds: Schemathesis sends what it allows and what it forbids, and checks every answer."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, ok, serving, until, valkey

from bandit.access.manage import Keyring, Wanted

SUPPORT = Path(__file__).parents[2] / "support"
SHORT = ("--phases", "examples,fuzzing,stateful", "--max-examples", "6")
LONG = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", os.environ.get("SCHEMA_EXAMPLES", "100"))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Live]:
    """A server that asks for keys, and whose client has one."""
    with valkey() as url, serving(url, auth="on", first_key_file=tmp_path / "first") as live:
        made = Keyring(live.service.store).create(Wanted("admin", ("admin",)))
        live.client.headers["Authorization"] = f"Bearer {made.text}"
        until(lambda: live.client.get("/v1/whoami").status_code == 200)
        yield live


def attacked(server: Live, *how: str) -> str:
    """What Schemathesis printed; it found nothing."""
    home = {
        "rewards": {"click": {}, "sale": {"range": [0, 500], "over_range": "clip"}},
        "arms": ["a", {"id": "b", "payload": {"title": "B"}}, "c"],
        "features": [{"name": "age", "type": "number", "mean": 40, "scale": 12, "missing": 40}],
    }
    assert server.client.put("/v1/experiments/home", json=home).status_code in (200, 201)
    ok(server.client.post("/v1/experiments/home/recommendations", json={"context": {}, "decision_id": "first"}))
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SUPPORT / "schemathesis.toml"), "run"]
    path = os.environ.get("PYTHONPATH", "")
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [*program, f"{server.url}/openapi.json", "--checks", "all", "--mode", "all", *how, "--seed", "1",
             "-H", f"Authorization: {server.client.headers['Authorization']}",
             "--no-shrink", "--continue-on-failure", "--suppress-health-check", "all", "--no-color"],
            env=os.environ | {"SCHEMATHESIS_HOOKS": "schema_hooks", "PYTHONPATH": f"{SUPPORT}:{path}"},
            cwd=place, capture_output=True, text=True, timeout=3000, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    return done.stdout


def cases(said: str) -> int:
    """How many requests were made up."""
    found = re.search(r"(\d+) generated", said)
    assert found, said[-3000:]
    return int(found[1])


def test_what_the_document_says_holds_for_made_up_requests(guarded: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """All checks, valid and invalid data: statuses, content types, schemas, refusals, methods, headers."""
    found = cases(attacked(guarded, *SHORT))
    with capsys.disabled():
        print(f"\nschemathesis: 0 failures in {found} cases")
    assert found > 200


@pytest.mark.torture
def test_it_holds_for_every_bound_of_every_schema_too(guarded: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """The same with each limit of each field; SCHEMA_EXAMPLES says how many requests more for each route."""
    found = cases(attacked(guarded, *LONG))
    with capsys.disabled():
        print(f"\nschemathesis: 0 failures in {found} cases")
    assert found > 2000
