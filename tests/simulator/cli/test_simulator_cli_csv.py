"""Commands on a CSV: what they take for the context, what they refuse to, and how reward columns are told."""

import json
from pathlib import Path

import pytest
from simulator_cli import CSV, rows, run, write_log

COMMANDS = {
    "evaluate": [],
    "evaluate --stream": ["--q", "ridge"],
    "compare": ["--target", "fixed:a", "--target", "fixed:b"],
    "select": ["--target", "fixed:a", "--target", "fixed:b"],
    "replay": ["--policy", "linucb"],
    "sweep": ["--policy", "linucb:alpha=0", "--policy", "linucb:alpha=1"],
    "report": [],
    "convert": ["--to", "jsonl", "--json"],
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log, in the folder that is written to."""
    monkeypatch.chdir(tmp_path)
    return write_log(tmp_path / "log.csv", n=400, users=30)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_once_what_it_takes_for_the_context(path: Path, command: str) -> None:
    """Numbers by their name, texts with how many values they have."""
    done, out, err = run(*command.split()[:1], path, *CSV, *command.split()[1:], *COMMANDS[command])
    assert done == 0, err
    said = out if command == "convert" else err
    assert said.count("columns of context: town (30 values), age") == 1


def test_a_column_that_a_target_is_not_told_is_refused_unless_named(path: Path) -> None:
    """A document's features are what is known before its policy decides; without any, all columns may be."""
    document = {"arms": ["a"], "features": [{"name": "age", "type": "number", "mean": 50, "scale": 20}]}
    home, plain = path.with_name("home.json"), path.with_name("plain.json")
    home.write_text(json.dumps(document | {"rewards": {"click": {}}}))
    plain.write_text(json.dumps({"arms": ["a"], "rewards": {"click": {}}}))
    for more in ([], ["--stream"]):
        code, out, err = run("evaluate", path, *CSV, "--target", home, *more)
        assert (code, out) == (1, "")
        assert err.startswith("bandit-simulator: log.csv: ['town'] may be known only after a decision")
        assert err.endswith("name the columns of the context: --context age\n")
    for target, context in ((home, ["age"]), (home, ["town", "age"]), (plain, [])):
        told = [word for name in context for word in ("--context", name)]
        assert rows("evaluate", path, *CSV, *told, "--target", target, "--estimator", "ips")


def test_several_rewards_are_told_with_their_weights(path: Path) -> None:
    """Age is worth nothing and a click two: the value is twice that of clicks."""
    plain = ("evaluate", path, "--format", "csv", "--arm", "arm", "--propensity", "p", "--context", "age")
    more = ("--estimator", "ips", "--reward-range", "0", "2")
    (one,) = rows(*plain, "--reward", "click", *more)
    (two,) = rows(*plain, "--reward", "click", "--reward", "age", "--weights", "click=2,age=0", *more)
    assert two["value"] == pytest.approx(2 * one["value"])
    assert run(*plain, "--reward", "click", "--weights", "clik=2")[2].endswith("did you mean 'click'?\n")
