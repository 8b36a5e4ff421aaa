"""`bandit-simulator` as the tests run it: in this process, with what it says on stdout and on stderr apart."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from simulator.cli.app import app

OPEN_BANDIT = Path(__file__).parents[1] / "data" / "open-bandit"
MEN = OPEN_BANDIT / "random" / "men"
CSV = ("--format", "csv", "--arm", "arm", "--reward", "click", "--propensity", "p")
ROLES = {"arm": "arm", "reward": "click", "propensity": "p"}  # the same for the library
Said = tuple[int, str, str]


def run(*arguments: str | Path) -> Said:
    """(exit code, stdout, stderr). What a command does not tell of itself is raised."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    """The rows that a command prints with --json; nothing else may be on stdout."""
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def write_log(path: Path, n: int = 1200, arms: int = 4, users: int = 60, seed: int = 0) -> Path:
    """A CSV of evenly drawn arms in which each town clicks on one arm in 80 % of the cases, on others in 20 %."""
    rng = np.random.default_rng(seed)
    user, arm = rng.integers(0, users, n), rng.integers(0, arms, n)
    click = rng.random(n) < np.where(arm == user % arms, 0.8, 0.2)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["town", "arm", "click", "p", "age"])
        columns = user.tolist(), arm.tolist(), click.astype(int).tolist(), rng.integers(18, 80, n).tolist()
        writer.writerows(
            [f"u{u}", "abcdefgh"[a], r, 1 / arms, age + 10 * (u % arms)] for u, a, r, age in zip(*columns, strict=True)
        )
    return path
