"""Commands in environments: every option once, against the library called with the same or against numbers by hand."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulator_cli import rows, run

from simulator.environments.named import named
from simulator.studies import parallel as spread
from simulator.studies import run as runs
from simulator.studies.across_seeds import differences
from simulator.studies.parallel import serial
from simulator.studies.power import decisions, decisions_until
from simulator.studies.sweep import sweep

SMALL = ("--environment", "logistic:arms=3,features=2", "--rounds", "400", "--workers", "1")


def small() -> Any:
    """The same environment by the library."""
    return named("logistic", arms=3, features=2)


def plain(found: Any) -> Any:
    """As JSON makes it."""
    return json.loads(msgspec.json.encode(found))


def policies(*names: str) -> list[str]:
    """The options that name them."""
    return [each for name in names for each in ("--policy", name)]


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (["--refresh", "7"], {"refresh": 7}),
        (["--refresh", "100ms", "--rate", "50"], {"refresh": "100ms", "rate": 50.0}),
        (["--explore", "0.5"], {"explore": 0.5}),
        (["--seed", "4"], {"seeds": [4]}),
        (["--seeds", "2"], {"seeds": 2}),
    ],
)
def test_an_option_of_run_is_the_librarys(options: list[str], how: dict[str, Any]) -> None:
    """The rows are those of `runs.run` with it, and others without it."""
    found = rows("run", *SMALL, *policies("linucb"), *options)
    assert found == plain(runs.run(small(), ["linucb"], rounds=400, spread=serial, **how).rows)
    assert found != plain(runs.run(small(), ["linucb"], rounds=400, spread=serial).rows)


def test_all_exploration_is_an_even_choice() -> None:
    """LinUCB with --explore 1 earns what uniform earns, but for the luck of the draw; uniform has exactly 100."""
    one, other = rows("run", *SMALL, *policies("linucb", "uniform"), "--explore", "1")
    assert one["mean_reward"] == pytest.approx(other["mean_reward"], abs=0.02)
    assert one["mean_reward"] != other["mean_reward"]
    assert other["regret_of_uniform"] == 100.0


def test_curves_are_written_with_as_many_windows_as_asked(tmp_path: Path) -> None:
    """One a policy and seed; each is the library's, and its mean is the mean reward."""
    path = tmp_path / "curves.jsonl"
    found = rows("run", *SMALL, *policies("linucb", "uniform"), "--curves", path, "--windows", "4")
    curves = [json.loads(line) for line in path.read_text().splitlines()]
    assert curves == plain(runs.run(small(), ["linucb", "uniform"], rounds=400, windows=4, spread=serial).curves)
    assert curves[0]["ends"] == [100, 200, 300, 400]
    for row, curve in zip(found, curves, strict=True):
        assert sum(curve["mean_reward"]) / 4 == pytest.approx(row["mean_reward"])


def test_a_baseline_makes_the_rows_paired_differences() -> None:
    """By hand from the rows without it; and the library's, intervals too."""
    arguments = ("run", *SMALL, *policies("linucb", "uniform"), "--seeds", "3")
    (found,) = rows(*arguments, "--baseline", "uniform")
    done = runs.run(small(), ["linucb", "uniform"], rounds=400, seeds=3, spread=serial)
    assert [found] == plain(differences(done.rows, "uniform"))
    means = [row["mean_reward"] for row in rows(*arguments)]
    assert found["difference"] == pytest.approx((sum(means[:3]) - sum(means[3:])) / 3)


def test_workers_are_as_many_as_asked_and_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes give what one gives; run, sweep and power all take the number."""
    asked: list[int | None] = []

    def counted(workers: int | None = None) -> Any:
        asked.append(workers)
        return processes(workers)

    processes = spread.processes
    monkeypatch.setattr(spread, "processes", counted)
    one = rows("run", *SMALL, *policies("linucb", "uniform"))
    assert rows("run", *SMALL[:-1], "2", *policies("linucb", "uniform")) == one
    rows("sweep", *SMALL, "--seeds", "1", "--grid", "alpha=1")
    rows("power", *SMALL, "--tests", "2")
    rows("run", *SMALL[:-2], *policies("uniform"))
    assert asked == [1, 2, 1, 1, None]


def test_work_is_given_to_the_cluster_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --cluster the runs go where `simulator.studies.cluster` leads; the rows are the same."""
    asked = []

    @contextmanager
    def connected(address: str) -> Iterator[Any]:
        asked.append(address)
        yield serial

    monkeypatch.setattr("simulator.studies.cluster.cluster", connected)
    assert rows("run", *SMALL[:-2], "--cluster", "tcp://host:8786") == rows("run", *SMALL)
    assert asked == ["tcp://host:8786"]


def table(path: Path, text: str) -> Path:
    """A table in a file."""
    path.write_text(text)
    return path


def earned(*arguments: str | Path) -> float:
    """What the best fixed arm earns in one pass."""
    (found,) = rows("run", *arguments, *policies("best-fixed"))
    return float(found["mean_reward"])


def test_a_label_makes_arms_of_its_values(tmp_path: Path) -> None:
    """By hand: two of three rows are good. With or without a header, compressed, or with another delimiter."""
    text = "kind,age\ngood,1\nbad,2\ngood,3\n"
    assert earned("--table", table(tmp_path / "a.csv", text), "--label", "kind") == pytest.approx(2 / 3)
    bare = table(tmp_path / "b.data", text.partition("\n")[2])
    assert earned("--table", bare, "--no-header", "--label", "f0") == pytest.approx(2 / 3)
    other = table(tmp_path / "c.tsv", text.replace(",", ";"))
    assert earned("--table", other, "--delimiter", ";", "--label", "kind") == pytest.approx(2 / 3)
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert earned("--table", packed, "--label", "kind") == pytest.approx(2 / 3)


def test_columns_of_rewards_make_arms_and_ignored_ones_no_features(tmp_path: Path) -> None:
    """By hand: arm y earns (0 + .5 + 1) / 3; --ignore leaves one feature of two."""
    path = table(tmp_path / "a.csv", "win:x,win:y,age,size\n1,0,1,7\n0,.5,2,8\n0,1,3,9\n")
    assert earned("--table", path, "--rewards", "win:") == pytest.approx(0.5)
    arguments = ("run", "--table", path, "--rewards", "win:", *policies("uniform"))
    assert "\n2 features:" in run(*arguments)[2]
    _, _, err = run(*arguments, "--ignore", "size")
    assert "2 arms: x, y\n" in err
    assert "\n1 features:\n  age" in err


def test_a_bad_label_makes_a_gamble(tmp_path: Path) -> None:
    """By hand: one row in ten is bad, eating earns (9 x 5 + (5 - 35) / 2) / 10 = 3; half bad, skipping's 0 is better.

    An even choice earns half of eating, on average.
    """
    one, half = "p,x\n" + "e,x\n" * 9, "p,x\ne,x\n"
    arguments = ("--no-header", "--label", "f0", "--bad", "p")
    assert earned("--table", table(tmp_path / "one.data", one), *arguments) == pytest.approx(3.0)
    assert earned("--table", table(tmp_path / "half.data", half), *arguments) == 0.0
    (found,) = rows("run", "--table", tmp_path / "one.data", *arguments, *policies("uniform"), "--rounds", "4000")
    assert found["mean_reward"] == pytest.approx(1.5, abs=0.4)
    assert found["regret_of_uniform"] == pytest.approx(100, abs=10)


def test_ratings_make_arms_of_the_popular_items(tmp_path: Path) -> None:
    """By hand: item a is rated by all three users, 4 + 2 + 4 of 4 each; b by two. One more item is a feature."""
    path = table(tmp_path / "r.csv", "u,i,r\n1,a,4\n2,a,2\n3,a,4\n1,b,4\n2,b,4\n1,c,1\n")
    arguments = ("--table", path, "--user", "u", "--item", "i", "--items", "2", "--known", "1")
    assert earned(*arguments, "--rating", "r") == pytest.approx((4 + 2 + 4) / 12)
    assert earned(*arguments) == 1.0
    _, _, err = run("run", *arguments, *policies("uniform"))
    assert err.startswith("2 arms: a, b\nreward rating: 0 to 1\n2 features:\n  c: boolean\n  how many:")
    assert run("run", *arguments[:-4], *policies("uniform"))[2].startswith("3 arms: a, b, c\n")


def test_a_sweep_plays_every_setting_and_judges_by_the_other_seeds() -> None:
    """The rows are those of `sweep`; the choice is told on stderr, where programs that read stdout do not meet it."""
    grid = ("--grid", "explore=0,1", "--grid", "alpha=0.5", "--seeds", "4", "--seed", "1", "--refresh", "50")
    code, out, err = run("sweep", *SMALL, *grid, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    how: dict[str, Any] = {"rounds": 400, "seeds": range(1, 5), "refresh": 50, "spread": serial}
    assert (code, found) == (0, plain(sweep(small(), "linucb", {"explore": [0, 1], "alpha": [0.5]}, **how).rows))
    assert err.startswith("chosen on every other seed: linucb:explore=0,alpha=0.5, ")
    judged = sum(row["mean_reward"] for row in found if row["seed"] in (2, 4) and "explore=0" in row["policy"]) / 2
    assert f", {judged:.5g} on the others" in err


def test_a_sweep_takes_another_policy() -> None:
    """--policy is what is varied."""
    found = rows("sweep", *SMALL, "--policy", "epsilon-greedy", "--grid", "explore=0.3", "--seeds", "1")
    assert [row["policy"] for row in found] == ["epsilon-greedy:explore=0.3"]


def test_power_takes_level_chance_and_share() -> None:
    """The number is that of `decisions`, and in made-up tests at this level it has the power that was asked for."""
    arguments = ("power", "--rate", "0.1", "--lift", "0.3")
    (plain_,) = rows(*arguments)
    assert plain_["decisions"] == decisions(0.1, 0.3)
    assert plain_["simulated_power"] == pytest.approx(0.8, abs=0.02)
    (found,) = rows(*arguments, "--alpha", "0.01", "--power", "0.9", "--share", "0.2")
    assert found["decisions"] == decisions(0.1, 0.3, alpha=0.01, power=0.9, share=0.2)
    assert found["simulated_power"] == pytest.approx(0.9, abs=0.02)
    assert rows(*arguments, "--seed", "1")[0]["simulated_power"] != plain_["simulated_power"]


def test_power_plays_policies_that_learn() -> None:
    """The answer is that of `decisions_until` with the same options."""
    options = ("--policy", "linucb:alpha=0.5", "--baseline", "best-fixed", "--looks", "5", "--tests", "12")
    (found,) = rows("power", *SMALL, *options, "--refresh", "20", "--power", "0.5", "--alpha", "0.2", "--share", "0.4")
    how: dict[str, Any] = {
        "seed": 0,
        "refresh": 20,
        "power": 0.5,
        "alpha": 0.2,
        "share": 0.4,
        "rounds": 400,
        "spread": serial,
    }
    expected = decisions_until(small(), "linucb:alpha=0.5", "best-fixed", looks=5, tests=12, **how)
    assert (found["looks"], found["seen"], found["decisions"]) == tuple(plain(expected))
    assert found["looks"] == [80, 160, 240, 320, 400]
    assert (found["policy"], found["baseline"]) == ("linucb:alpha=0.5", "best-fixed")
    (other,) = rows("power", *SMALL, *options, "--seed", "100")
    assert other["seen"] != rows("power", *SMALL, *options)[0]["seen"]
    _, out, _ = run("power", *SMALL, *options)
    assert "share of tests that detected a difference" in " ".join(out.split())
