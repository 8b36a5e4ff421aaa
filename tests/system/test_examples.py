"""The examples: those of the server run against a real one, those of the simulator on what they make up themselves."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from harness import Server, until

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVER = ["offers"]
STORY = "shop"
SIMULATOR = ["compare_policies", "evaluate_log", "replay_report"]
NUMBER = r"[+-]?\d+\.\d+"


def printed(name: str, *arguments: str | Path, quiet: bool = True) -> str:
    """What an example prints; it must end well, and say nothing else where it is `quiet`."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr if quiet else "") == (0, ""), done.stderr
    return done.stdout


def numbers(line: str) -> list[float]:
    """The decimal numbers of a line after its first word, which names a policy."""
    return [float(each) for each in re.findall(NUMBER, line.partition(" ")[2])]


def starting(output: str, name: str) -> list[str]:
    """The lines that begin with a policy's name."""
    return [line for line in output.splitlines() if line.startswith(f"{name} ")]


def test_every_example_is_tested() -> None:
    """Each file is an example of the server or of the simulator, and short enough to be copied."""
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in paths] == sorted([*SERVER, STORY, *SIMULATOR])
    lines = {path.stem: len(path.read_text().splitlines()) for path in paths}
    assert {name for name, n in lines.items() if n >= 50} == {STORY}
    assert lines[STORY] < 300


@pytest.mark.parametrize("name", SERVER)
def test_an_example_of_the_server_decides(name: str, tmp_path: Path) -> None:
    """It ends well against a fresh server, and the server has logged its decisions."""
    server = Server(tmp_path / "data", workers=1)
    try:
        assert printed(name, server.url)
        experiment = httpx.get(f"{server.url}/v1/experiments").json()["experiments"][0]["name"]
        arms = httpx.get(f"{server.url}/v1/experiments/{experiment}/arms").json()["arms"]
        assert sum(arm["impressions"] for arm in arms) > 0
    finally:
        server.stop()


def test_the_shop_learns_and_tells_the_truth() -> None:
    """With a server of its own: offers are paused, money comes and goes, and what is said covers the truth.

    Of one seed, which is sure to within the draws of the server; that it holds in 93 of 100 is measured elsewhere.
    """
    told = json.loads(printed("shop", "--decisions", "4000", "--seed", "3", "--json", quiet=False))
    assert told["lift"]["decisions"] == 4000 - told["fallbacks"]
    assert told["lift"]["sentence"].startswith("learned ")
    counts = told["feedback"]
    assert counts["accepted"] > 300
    assert {counts[each] for each in ("waiting", "duplicate", "late", "refused", "dropped")} == {0}
    assert -0.2 < told["truth"]["sum"] < told["truth"]["possible"]  # it has only begun to learn; 3 runs: 0.20 to 0.43
    effect = told["lift"]["effect"]
    assert effect["low"] is None or effect["low"] - 0.5 < told["truth"]["sum"] < effect["high"] + 0.5


def test_the_shop_leaves_no_server_behind(tmp_path: Path) -> None:
    """Also where it is ended in the middle: its server, its store and its directory go with it."""
    command = [sys.executable, str(EXAMPLES / "shop.py"), "--decisions", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)}) as process:
        until(lambda: list(tmp_path.glob("shop-*/data/server.json")), 30, "its server")
        place = json.loads(next(tmp_path.glob("shop-*/data/valkey.json")).read_text())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert list(tmp_path.glob("shop-*")) == []
    assert not Path(f"/proc/{place['pid']}").exists()


def test_a_log_is_evaluated_truthfully() -> None:
    """Its visitors' rates are known: the bundle earns .15, an even choice .95 / 6; both are in their intervals.

    The best choice for each visitor earns (.25 + .30) / 2: what learns earns more than any that does not, and not more
    than that.
    """
    output = printed("evaluate_log")
    for name, truth in (("fixed:bundle", 0.15), ("uniform", 0.95 / 6)):
        (line,) = starting(output, name)
        _, low, high = numbers(line)
        assert low < truth < high
        assert " interval" in line
    (line,) = starting(output, "linucb:alpha=0.5")
    assert 0.2 < numbers(line)[0] < 0.29


def test_an_example_reads_a_log_of_ones_own(tmp_path: Path) -> None:
    """Two decisions of a fair coin that earned 1 and 0: the mean is 0.5, and every value from 0 to 1 is possible."""
    path = tmp_path / "own.csv"
    path.write_text("banner,clicked,propensity,returning\nbundle,1,0.5,1\nnews,0,0.5,0\n")
    output = printed("evaluate_log", path)
    assert output.startswith("2 decisions between bundle, news earned 0.5000 each")
    assert "0.0000 to 1.0000  sequence" in starting(output, "uniform")[0]


def test_policies_are_compared_over_the_same_seeds() -> None:
    """What sees the context beats what does not, which beats chance: no interval of a difference has 0 in it."""
    output = printed("compare_policies")
    better, worse = (starting(output, name)[-1] for name in ("linucb:alpha=0.5", "uniform"))
    assert numbers(better)[1] > 0
    assert numbers(worse)[2] < 0
    means = [numbers(starting(output, name)[0])[0] for name in ("linucb:alpha=0.5", "uniform")]
    assert means[0] - means[1] == pytest.approx(numbers(better)[0] - numbers(worse)[0], abs=2e-4)


def test_a_replay_ends_in_a_page(tmp_path: Path) -> None:
    """Of 8,000 rows of an even choice of three arms about a third match: a life with limits, and a page."""
    output = printed("replay_report", tmp_path / "page.html")
    found = re.search(rf"replay: ({NUMBER}) .* over (\d+) matches", output)
    assert found
    earned = re.search(rf"the log earned ({NUMBER})", output)
    assert earned
    assert float(found[1]) > float(earned[1]) + 0.05
    assert abs(int(found[2]) - 8000 / 3) < 4 * (8000 * 2 / 9) ** 0.5
    assert "sequence)" in found[0]
    page = (tmp_path / "page.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "linucb:alpha=0.5" in page
