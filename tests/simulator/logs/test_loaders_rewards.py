"""An empty reward that means that nothing came: a log in which too many are empty is refused, whatever its format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulator_cli import run

from simulator.logs.cleaning import Rules
from simulator.logs.contexts import LogError
from simulator.logs.convert import convert
from simulator.logs.loaders import load, stream

ROLES = {"arm": "arm", "reward": "reward", "propensity": "p"}


def csv(rewards: list[int | None]) -> str:
    """A CSV of these rewards."""
    return "arm,reward,p\n" + "".join(f"{'ab'[k % 2]},{'' if r is None else r},0.5\n" for k, r in enumerate(rewards))


def table(rewards: list[int | None]) -> str:
    """JSON lines without a header."""
    rows = [{"shown": [{"arm": "ab"[k % 2], "propensity": 0.5}], "reward": r} for k, r in enumerate(rewards)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def dsjson(rewards: list[int | None]) -> str:
    """Lines without a label where there is no reward."""
    plain = {"a": [1, 2], "p": [0.5, 0.5], "c": {"_multi": [{"_tag": "a"}, {"_tag": "b"}]}}
    label = {"_label_probability": 0.5, "_label_Action": 1, "_labelIndex": 0}
    rows = [plain if r is None else {**plain, **label, "_label_cost": -r} for r in rewards]
    return "".join(json.dumps({**row, "EventId": f"e{k}"}) + "\n" for k, row in enumerate(rows))


def vw(rewards: list[int | None]) -> str:
    """Examples without a label where there is no reward."""
    return "".join("| x\n" if r is None else f"{k % 2 + 1}:{-r}:0.5 | x\n" for k, r in enumerate(rewards))


WRITERS = {"csv": csv, "table": table, "dsjson": dsjson, "vw": vw}
Writer = Callable[[list[int | None]], str]


@pytest.mark.parametrize("format_", WRITERS)
def test_a_log_in_which_only_what_came_has_a_reward_is_refused(tmp_path: Path, format_: str) -> None:
    """119 of 400 clicks and the rest empty was a value of 1, with limits from .946: whoever reads it, and however."""
    path, roles = tmp_path / "log", ROLES if format_ == "csv" else {}
    path.write_text(WRITERS[format_]([1] * 119 + [None] * 281))
    says = (
        r"no reward in 281 of 400 \w+, expected a share of 0.25 at most: write 0 where nothing came; .*--faulty 0.71$"
    )
    reads: list[Callable[..., Any]] = [
        lambda **more: load(path, format_, **roles, **more),
        lambda **more: list(stream(path, format_, rows=7, **roles, **more))[-1],
        lambda **more: convert(path, format_, "jsonl", tmp_path / "out", **roles, **more),
    ]
    for read in reads:
        with pytest.raises(LogError, match=says):
            read()
        assert not (tmp_path / "out").exists()
        assert (
            sum(n for what, n in read(faulty=0.71).cleaning.items() if "no reward" in what or "without" in what) == 281
        )
        with pytest.raises(LogError, match=r"faulty: expected a share in \[0, 1\], got 2"):
            read(faulty=2)
    assert len(load(path, format_, **roles, rules=Rules(faulty=1))) == 119


@pytest.mark.parametrize("format_", WRITERS)
def test_a_few_rows_without_a_reward_are_left_out_and_counted(tmp_path: Path, format_: str) -> None:
    """A quarter of the rows, by default."""
    path, roles = tmp_path / "log", ROLES if format_ == "csv" else {}
    path.write_text(WRITERS[format_]([1, 0, None, 1] * 25))
    assert len(load(path, format_, **roles)) == 75
    with pytest.raises(LogError, match="25 of 100"):
        load(path, format_, **roles, faulty=0.2)


def test_the_commands_take_the_share(tmp_path: Path) -> None:
    """Of every format whose rewards may be missing."""
    path = tmp_path / "log.csv"
    path.write_text(csv([1, None] * 100))
    words = ["evaluate", path, "--format", "csv", "--arm", "arm", "--reward", "reward", "--propensity", "p"]
    for more in ([], ["--stream"]):
        code, out, err = run(*words, *more, "--target", "uniform", "--estimator", "ips")
        assert (code, out) == (1, "")
        assert err.endswith("leave these out knowingly, with --faulty 0.5\n")
        assert run(*words, *more, "--target", "uniform", "--estimator", "ips", "--faulty", "0.5")[0] == 0


def test_rows_that_count_for_dropped_ones_are_told_of(tmp_path: Path) -> None:
    """Of dsjson those with a pdrop: their weight is 1 / (1 - pdrop)."""
    path = tmp_path / "log.dsjson"
    rows = [json.loads(line) for line in dsjson([1, 0, 1, 0]).splitlines()]
    path.write_text("".join(json.dumps({**row, "pdrop": 0.5 * (k > 0)}) + "\n" for k, row in enumerate(rows)))
    log = load(path, "dsjson")
    assert log.weight is not None
    assert log.weight.tolist() == [1, 2, 2, 2]
    assert log.cleaning["rows that stand for others too, by their pdrop: weight 1 / (1 - pdrop)"] == 3
