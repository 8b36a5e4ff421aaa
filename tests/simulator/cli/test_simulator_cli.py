"""`bandit-simulator` as programs rely on it: rows of JSON on stdout, with the keys that they know."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from simulator_cli import MEN, OPEN_BANDIT, rows, run

import simulator
from simulator.cli.app import app
from simulator.ope.evaluate import evaluate
from simulator.studies.run import run as played

COMMANDS = ("run", "evaluate", "convert", "replay", "compare", "select", "report", "sweep", "power", "features")


def test_it_runs_as_a_module() -> None:
    """`python -m simulator`, in a process of its own: one row on stdout and nothing else."""
    command = [sys.executable, "-m", "simulator", "power", "--rate", "0.5", "--lift", "0.5", "--power", "0.9", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["decisions"] == pytest.approx(2 * 76.65294, abs=1)  # R's power.prop.test


@pytest.mark.parametrize("asked", [["--help"], ["evaluate", "log.jsonl"], ["power", "--help"]])
def test_without_the_libraries_of_its_extra_it_says_what_to_install(asked: list[str]) -> None:
    """In one line, whatever is asked."""
    lacking = "import sys; sys.modules.update(pyarrow=None, scipy=None); from simulator.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", lacking, *asked], capture_output=True, text=True, check=False)
    said = "bandit-simulator: without pyarrow, scipy it cannot run: pip install 'bandit-server[simulator]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_every_command_has_help_json_and_a_seed() -> None:
    """Each has a line of help for every option."""
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == set(COMMANDS)
    for name in COMMANDS:
        code, out, _ = run(name, "--help")
        assert code == 0
        assert {"--json", "--seed"} <= set(out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function_of_the_package(name: str) -> None:
    """`from simulator import run, evaluate, ...`, also after the modules that hold them have been loaded."""
    found = getattr(simulator, name)
    assert callable(found)
    assert found.__module__.startswith("simulator.")
    assert name in simulator.__all__
    assert (simulator.evaluate, simulator.run) == (evaluate, played)


def test_the_package_itself_loads_nothing() -> None:
    """The server's demo imports it with NumPy only."""
    code = "import sys, simulator; print(sorted(name for name in sys.modules if name.startswith('simulator.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = simulator.nothing


def test_evaluate_prints_a_row_an_estimator_and_agrees_with_obp() -> None:
    """The keys that programs rely on; IPS and SNIPS of the Bernoulli TS policy are obp's to 1e-9."""
    target = OPEN_BANDIT / "target_bts_men.csv"
    found = rows(
        "evaluate", MEN, "--format", "open-bandit", "--target", target, "--estimator", "ips", "--estimator", "snips"
    )
    assert [row["estimator"] for row in found] == ["ips", "snips"]
    assert {"estimator", "value", "low", "high", "n", "n_eff", "max_weight", "verdict"} <= found[0].keys()
    assert found[0]["value"] == pytest.approx(0.004533560000000009, abs=1e-9)
    assert found[1]["value"] == pytest.approx(0.004604232164349611, abs=1e-9)


def test_a_log_that_says_little_gets_all_that_is_possible() -> None:
    """An arm that was shown too seldom for more: an answer with its limits, and the exit code is 0."""
    log = OPEN_BANDIT / "bts" / "all"
    (found,) = rows("evaluate", log, "--format", "open-bandit", "--target", "fixed:73", "--estimator", "ips")
    assert (found["verdict"], found["low"], found["high"]) == ("sequence", 0.0, 1.0)


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
    targets = ("--target", "uniform", "--target", OPEN_BANDIT / "target_bts_men.csv")
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


def test_tables_for_people_hold_the_same_numbers() -> None:
    """Without --json: a table on stdout, wide enough that no line is folded, and no JSON."""
    arguments = ("run", "--environment", "linear:arms=3", "--rounds", "200", "--seeds", "2", "--workers", "1")
    code, out, err = run(*arguments, "--baseline", "uniform")
    assert code == 0
    assert err.startswith("3 arms: arm0, arm1, arm2\n")
    assert "{" not in out
    for row in rows(*arguments):
        assert f"{row['mean_reward']:.5g}" in out
    assert "bootstrap_high" in out
