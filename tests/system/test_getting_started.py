"""docs/getting-started.md is executed, and what it prints is printed; with `tests` and `tests/support` on the path,
`--write` renews it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import Server, until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/getting-started.md"
USUAL = "http://127.0.0.1:8080"
RENEW = "renew the page: python tests/system/test_getting_started.py --write"
VOLATILE = {"expires_at", "model_position", "arm", "payload"}  # times, and what is drawn


def ran(folder: Path, command: str, url: str) -> list[str]:
    """What a command of the page prints, as if it were run with a server at the usual address."""
    shim = folder / "bandit-server"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bandit "$@"\n')
    shim.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "BANDIT_URL": url}
    shell = ["bash", "-c", command.replace(USUAL, url)]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return re.sub(r"bs_\w+", "bs_ID_SECRET", done.stdout.replace(url, USUAL)).splitlines()


def now() -> list[str]:
    """The lines of the console blocks as they are now: each command with what it prints."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "examples").symlink_to(ROOT / "examples")
        server = Server(folder / "bandit-data", workers=1)
        try:
            lines = []
            for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
                lines += ["```"]
                for command in [line for line in block.splitlines() if line.startswith("$ ")]:
                    lines += [command, *ran(folder, command[2:], server.url)]
            until(lambda: _seen(folder, server.url) == 1, 10, "the decision in the sums")
        finally:
            server.stop()
    return lines


def _seen(folder: Path, url: str) -> int:
    """How many decisions the server has learned from."""
    rows = json.loads("".join(ran(folder, f"curl -s {USUAL}/v1/experiments/shop/arms", url)))["arms"]
    return sum(row["impressions"] for row in rows)


def steady(line: str) -> Any:
    """A line without what differs from run to run."""
    if line.startswith("{"):
        return _steady(json.loads(line))
    return line


def _steady(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: None if name in VOLATILE else _steady(each) for name, each in value.items()}
    return [_steady(each) for each in value] if isinstance(value, list) else value


def test_the_first_five_minutes_are_as_printed() -> None:
    """Every command works in this order, and prints what stands under it, but for times, keys and the arm drawn."""
    printed = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        printed += ["```", *block.splitlines()]
    found = now()
    assert [steady(line) for line in found] == [steady(line) for line in printed], RENEW
    assert len(found) > 30


def write() -> None:
    """Put what is printed now under the page's commands."""
    blocks = iter("\n".join(now()).split("```\n")[1:])
    text = re.sub(
        r"```console\n.*?```", lambda _: f"```console\n{next(blocks).rstrip()}\n```", PAGE.read_text(), flags=re.DOTALL
    )
    PAGE.write_text(text)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
