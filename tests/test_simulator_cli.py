"""`bandit-simulator` as its users run it: rows of JSON on stdout, reasons on stderr."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data" / "open-bandit"
MEN = DATA / "random" / "men"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m simulator` with these arguments."""
    command = [sys.executable, "-m", "simulator", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def rows(*arguments: str | Path) -> list[dict[str, object]]:
    """The rows that a command prints with --json; nothing else may be on stdout."""
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_evaluate_prints_a_row_an_estimator_and_agrees_with_obp() -> None:
    """The keys that programs rely on; IPS and SNIPS of the Bernoulli TS policy are obp's to 1e-9."""
    target = DATA / "target_bts_men.csv"
    found = rows(
        "evaluate", MEN, "--format", "open-bandit", "--target", target, "--estimator", "ips", "--estimator", "snips"
    )
    assert [row["estimator"] for row in found] == ["ips", "snips"]
    assert {"estimator", "value", "low", "high", "n", "n_eff", "max_weight", "verdict"} <= found[0].keys()
    assert found[0]["value"] == pytest.approx(0.004533560000000009, abs=1e-9)
    assert found[1]["value"] == pytest.approx(0.004604232164349611, abs=1e-9)


def test_a_refused_row_is_printed_without_an_interval() -> None:
    """Low and high are null, and the exit code is 0: it is an answer."""
    found = rows(
        "evaluate", DATA / "bts" / "all", "--format", "open-bandit", "--target", "fixed:73", "--estimator", "ips"
    )
    assert (found[0]["verdict"], found[0]["low"], found[0]["high"]) == ("refused", None, None)


def test_run_prints_a_row_a_policy_and_seed() -> None:
    """Regret of uniform is about 100, and the same seed gives the same bits."""
    arguments = ("run", "--environment", "logistic", "--policy", "uniform", "--policy", "linucb", "--rounds", "1000")
    found = rows(*arguments, "--seed", "3")
    assert [row["policy"] for row in found] == ["uniform", "linucb"]
    assert found[0].keys() == {"policy", "seed", "rounds", "mean_reward", "regret_of_uniform"}
    assert found[0]["regret_of_uniform"] == pytest.approx(100, abs=10)
    assert rows(*arguments, "--seed", "3") == found


def test_what_is_compared_with_itself_does_not_differ() -> None:
    """A paired difference of one policy with another of the same probabilities is 0, whatever the log."""
    targets = ("--target", "uniform", "--target", DATA / "target_bts_men.csv")
    (other,) = rows("compare", MEN, "--format", "open-bandit", *targets)
    (same,) = rows("compare", MEN, "--format", "open-bandit", *targets, "--target", "uniform")
    assert other == same
    assert other["baseline"] == "uniform"
    assert other["value"] == pytest.approx(0.0046 - 0.0046, abs=0.002)


def test_convert_and_replay_take_what_they_write(tmp_path: Path) -> None:
    """A log written as the table is read again, with as many rows and the same replay."""
    table = tmp_path / "men.parquet"
    (done,) = rows("convert", MEN, "--format", "open-bandit", "--to", "parquet", "-o", table)
    assert done["rows"] == 10_000
    first = rows("replay", MEN, "--format", "open-bandit", "--policy", "uniform")
    assert rows("replay", table, "--format", "table", "--policy", "uniform") == first


def test_power_says_how_many_decisions_a_lift_needs() -> None:
    """With so many decisions a simulated test sees the lift four times in five."""
    (found,) = rows("power", "--rate", "0.1", "--lift", "0.1")
    assert found["simulated_power"] == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "nowhere.jsonl"),
        ("evaluate", MEN, "--format", "open-bandit", "--target", "fixed:x"),
        ("run", "--environment", "x"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: tuple[str | Path, ...]) -> None:
    """Exit 1, nothing on stdout, no traceback."""
    done = run(*arguments, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bandit-simulator: ")
    assert len(done.stderr.splitlines()) == 1
