"""Commands on a log: every option once, against the library called with the same or against numbers by hand."""

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from simulator_cli import CSV, MEN, OPEN_BANDIT, ROLES, rows, run, write_log

from simulator.logs.loaders import load
from simulator.logs.log import Log
from simulator.ope.differences import Data, compared
from simulator.ope.evaluate import evaluate
from simulator.ope.models import model_of, predictions
from simulator.ope.targets import fixed, uniform
from simulator.policies.adapters.collaborative import probabilities
from simulator.policies.targets import Learned, frozen, target
from simulator.studies.parallel import serial
from simulator.studies.replay import replay
from simulator.studies.replay_dr import replay_dr
from simulator.studies.run import Curve
from simulator.studies.select import select
from simulator.studies.sweep import sweep_log
from simulator.wording import number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log in a file."""
    return write_log(tmp_path / "log.csv")


def plain(found: Any) -> Any:
    """As JSON makes it: what is no number is null."""
    return json.loads(msgspec.json.encode(found))


def read(path: Path) -> Log:
    """The same log by the library."""
    return load(path, "csv", **ROLES)


OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    (["--estimator", "dr", "--q", "mean"], {"estimators": ["dr"], "q": "mean"}),
    (["--estimator", "dm", "--q-fit", "in_sample"], {"estimators": ["dm"], "q_fit": "in_sample"}),
    (["--estimator", "switch-dr", "--tau", "2"], {"estimators": ["switch-dr"], "tau": 2.0}),
    (["--estimator", "dros", "--lambda", "3"], {"estimators": ["dros"], "lam": 3.0}),
    (["--estimator", "clipped", "--clip", "1.5"], {"estimators": ["clipped"], "clip": 1.5}),
    (["--estimator", "ips", "--alpha", "0.2"], {"estimators": ["ips"], "alpha": 0.2}),
    (["--estimator", "ips", "--interval", "bootstrap"], {"estimators": ["ips"], "interval": "bootstrap"}),
    (["--estimator", "dm", "--reward-range", "-1", "3"], {"estimators": ["dm"], "reward_range": (-1.0, 3.0)}),
    (["--estimator", "replay", "--seed", "5"], {"estimators": ["replay"], "seed": 5}),
]


@pytest.mark.parametrize(("options", "how"), OPTIONS, ids=lambda each: str(each[-2]) if isinstance(each, list) else "")
def test_an_option_of_evaluate_is_the_librarys(path: Path, options: list[str], how: dict[str, Any]) -> None:
    """The row is that of `evaluate` with it, and is another one without it."""
    log = read(path)
    pi = 0.7 * fixed(log, "b") + 0.3 * uniform(log)
    targets = path.with_name("target.csv")
    targets.write_text("arm,probability\na,0.075\nb,0.775\nc,0.075\nd,0.075\n")
    (found,) = rows("evaluate", path, *CSV, "--target", targets, *options)
    del found["target"]
    assert found == pytest.approx(plain(asdict(evaluate(log, pi, **how)[0])))
    assert found != pytest.approx(plain(asdict(evaluate(log, pi, estimators=how["estimators"])[0])))


ONE_WAY = (
    "context: ",
    "--stream does not simulate a policy on its own",
)  # what is said of a whole log only, or of pieces only
PIECES: list[tuple[str, list[str]]] = [
    ("uniform", []),
    ("fixed:b", ["--train", "0.25"]),
    ("linucb:alpha=0.5,refresh=50", []),
    ("linucb:alpha=0.5,refresh=50", ["--train", "0.25"]),
    ("linucb:alpha=0.5,refresh=50", ["--keep-learning"]),
]


@pytest.mark.parametrize(("name", "more"), PIECES)
def test_a_log_in_pieces_is_valued_as_a_whole_one(path: Path, name: str, more: list[str]) -> None:
    """--stream: the same rows where no splits are drawn, and the cleaning is told once."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1].replace(",0.25,", ",0,")]))
    options = (path, *CSV, "--context", "age", "--target", name, "--q-fit", "past", "--tau", "2", *more)
    both = (rows("evaluate", *options, *stream) for stream in (["--stream"], []))
    found, whole = ([row for row in each if row["estimator"] not in ("dm", "alone")] for each in both)
    assert found == [pytest.approx(row) for row in whole]
    said = (run("evaluate", *options, *stream)[2].splitlines() for stream in ([], ["--stream"]))
    plain, streamed = ([line for line in each if not line.startswith(ONE_WAY)] for each in said)
    assert streamed == plain
    assert plain.count("1 row dropped: propensity not above 0") == 1


def test_what_needs_the_whole_log_is_refused_of_pieces(path: Path) -> None:
    """One line, with what is wrong."""
    for more, said in (
        (["--target", "cosine", "--train", "0.5"], "--stream takes no als or cosine"),
        (["--q", "mean-position"], "q of a stream is one of ridge, mean"),
    ):
        code, out, err = run("evaluate", path, *CSV, "--stream", *more)
        assert code in (1, 2)
        assert (out, said in err) == ("", True)


def test_replay_matches_by_rejection_or_as_obp_has_it(tmp_path: Path) -> None:
    """A log that shows a, which earns 1, nine times in ten: by rejection uniform earns .5, without about .9."""
    path = tmp_path / "skewed.csv"
    path.write_text("arm,click,p\n" + ("a,1,0.9\n" * 9 + "b,0,0.1\n") * 400)
    arguments = ("evaluate", path, *CSV, "--estimator", "replay")
    assert rows(*arguments)[0]["value"] == pytest.approx(0.5, abs=0.1)
    (found,) = rows(*arguments, "--acceptance", "none")
    assert found["value"] == pytest.approx(0.9, abs=0.03)
    assert "biased" in found["note"]


def test_a_wider_interval_is_surer(tmp_path: Path) -> None:
    """By the normal table: at 99 % it is 2.576 / 1.645 times as wide as at 90 %."""
    path = write_log(tmp_path / "log.csv", n=6000)
    wide, narrow = (
        rows("evaluate", path, *CSV, "--target", "fixed:a", "--estimator", "ips", "--alpha", alpha)[0]
        for alpha in ("0.01", "0.1")
    )
    assert {wide["verdict"], narrow["verdict"]} == {"interval"}
    ratio = (wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"])
    assert ratio == pytest.approx(2.5758 / 1.6449, rel=1e-4)


def test_a_target_that_learns_is_refreshed_as_asked(path: Path) -> None:
    """--refresh of evaluate is that of `targets.Learned`; every 300 rows is not every 100."""
    log = read(path)
    arguments = ("--target", "linucb", "--refresh", "300", "--estimator", "ips", "--keep-learning")
    found, _alone = rows("evaluate", path, *CSV, *arguments)
    values = [evaluate(log, Learned(log, "linucb", refresh=n)(log), estimators=["ips"])[0].value for n in (300, 100)]
    assert found["value"] == values[0] != values[1]


@pytest.mark.parametrize(("more", "cut"), [([], 600), (["--train", "0.25"], 300)])
def test_a_policy_is_valued_as_it_had_learned_before_the_rows_that_value_it(
    path: Path, more: list[str], cut: int
) -> None:
    """Frozen after the first half, or --train; another target beside it is valued on the same rows."""
    log = read(path)
    targets = ("--target", "linucb:explore=0.2", "--target", "fixed:b", "--estimator", "ips")
    found = rows("evaluate", path, *CSV, *targets, *more)
    rest = log.take(slice(cut, None))
    for row, pi in zip(found, (frozen(log, "linucb:explore=0.2", cut), fixed(rest, "b")), strict=True):
        (expected,) = evaluate(rest, pi, estimators=["ips"])
        assert (row["value"], row["low"], row["high"], row["n"]) == (
            expected.value, expected.low, expected.high, 1200 - cut,
        )  # fmt: skip
    assert f"learned from the first {cut} of 1,200 rows" in run("evaluate", path, *CSV, *targets, *more)[2]


COLLABORATIVE = [("als:factors=4", "implicit", {"factors": 4}), ("cosine:explore=0.1", "sklearn", {"explore": 0.1})]


@pytest.mark.parametrize(("name", "needs", "how"), COLLABORATIVE)
def test_collaborative_filtering_learns_from_the_first_share_and_is_valued_on_the_rest(
    path: Path, name: str, needs: str, how: dict[str, Any]
) -> None:
    """The value is that of the library's policy on the same parts; what else learns has met the first part too."""
    pytest.importorskip(needs)
    arguments = ("--user", "town", "--train", "0.25", "--estimator", "snips")
    names = (name, "uniform", "linucb")
    found = rows("evaluate", path, *CSV, *arguments, *(each for one in names for each in ("--target", one)))
    log = load(path, "csv", user="town", **ROLES)
    first, rest = log.take(slice(300)), log.take(slice(300, None))
    pis = [probabilities(first, rest, name.partition(":")[0], **how), uniform(rest), frozen(log, "linucb", 300)]
    assert [(row["target"], row["n"]) for row in found] == [(each, 900) for each in names]
    for row, pi in zip(found, pis, strict=True):
        assert row["value"] == pytest.approx(evaluate(rest, pi, estimators=["snips"])[0].value)


def test_als_finds_what_each_user_likes_and_is_seeded(path: Path) -> None:
    """Users click on one arm in 80 % of the cases, on others in 20; --seed is that of its factors if it has none."""
    pytest.importorskip("implicit")
    arguments = ("evaluate", path, *CSV, "--user", "town", "--train", "0.5", "--estimator", "snips", "--target")
    value, seeded, own, other = (
        rows(*arguments, *target)[0]["value"]
        for target in (
            ("als:factors=4",),
            ("als:factors=2", "--seed", "7"),
            ("als:factors=2,seed=7",),
            ("als:factors=2,seed=8", "--seed", "7"),
        )
    )
    assert value > rows(*arguments, "uniform")[0]["value"] + 0.1
    assert seeded == own != other


def test_rewards_outside_a_range_are_dropped_and_counted(tmp_path: Path) -> None:
    """By hand: of 10, 2 and 6 the mean is 6; 99 and -1 are not in [0, 20]. stderr says how many were dropped."""
    path = tmp_path / "money.csv"
    path.write_text("arm,money,p\n" + "".join(f"a,{r},1\n" for r in (10, 99, 2, -1, 6)))
    arguments = ("--format", "csv", "--arm", "arm", "--reward", "money", "--propensity", "p", "--estimator", "ips")
    code, out, err = run("evaluate", path, *arguments, "--keep-rewards", "0", "20", "--json")
    assert (code, json.loads(out)["value"], json.loads(out)["n"]) == (0, 6.0, 3)
    assert err.endswith("2 rows dropped: reward outside [0, 20]\n")


def test_what_a_csv_is_told_of_its_columns_arrives(tmp_path: Path) -> None:
    """Every role once, by the header and rows of what is converted; a decision told twice counts once, or twice."""
    path = tmp_path / "all.csv"
    path.write_text(
        "who,what,got,p,where,at,no,times,age,city\n"
        "tom,x,1,0.5,1,2026-01-01T00:00:00Z,d1,2,30,bern\n"
        "ann,y,0,0.5,2,2026-01-01T00:00:01Z,d2,1,40,oslo\n"
        "ann,y,0,0.5,2,2026-01-01T00:00:01Z,d2,1,40,oslo\n"
    )
    roles = {
        "--arm": "what", "--reward": "got", "--propensity": "p", "--position": "where", "--first-position": "1",
        "--time": "at", "--user": "who", "--decision-id": "no", "--weight": "times", "--context": "age",
        "--arms": "z,y,x",
    }  # fmt: skip
    options = [each for pair in roles.items() for each in pair]
    arguments = (path, "--format", "csv", *options, "--learning", "--to", "jsonl")
    (done,) = rows("convert", *arguments, "-o", tmp_path / "out.jsonl.gz")
    assert done["rows"] == 2
    text = gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).decode()
    header, first, second, _ = map(json.loads, text.splitlines())
    assert header["bandit-log"]["arms"] == ["z", "y", "x"]
    assert header["bandit-log"]["learning"] is True
    assert [feature["name"] for feature in header["bandit-log"]["features"]] == ["age"]
    assert first["shown"] == [{"arm": "x", "propensity": 0.5}]
    told = ("user", "decision_id", "weight", "position", "reward", "time")
    assert [first[name] for name in told] == ["tom", "d1", 2.0, 0, 1.0, "2026-01-01T00:00:00Z"]
    assert [second[name] for name in told[:4]] == ["ann", "d2", 1.0, 1]
    (done,) = rows("convert", *arguments, "--keep-repeats", "-o", tmp_path / "twice.jsonl")
    assert done["rows"] == 3


def server_log(path: Path) -> Path:
    """An export with one list of two positions, of which the first was clicked and the second sold for 30."""
    document = {"arms": ["a", "b"], "rewards": {"click": {"weight": 1}, "sale": {"weight": 0.1, "range": [0, 100]}}}
    shared = {"decision_id": "d", "experiment_version": 1}
    shown = [{"arm": "a", "propensity": 0.5, "marginal": 0.5}, {"arm": "b", "propensity": 1.0, "marginal": 0.5}]
    entries: list[dict[str, Any]] = [
        {"type": "experiment", "version": 1, "generation": 1, "document": document},
        {
            "type": "decision", **shared, "time": "2026-01-01T00:00:00Z", "context": {}, "arms": shown,
            "eligible": [{"arm": "a", "probability": 0.5}, {"arm": "b", "probability": 0.5}], "slice": 0, "user": None,
            "model_position": "0-0", "deferred": False,
        },
        {"type": "feedback", **shared, "arm": "a", "event": "click", "credited": 1.0},
        {"type": "feedback", **shared, "arm": "b", "event": "sale", "credited": 30.0},
    ]  # fmt: skip
    lines = (json.dumps({"position": f"{i}-0", **entry}) + "\n" for i, entry in enumerate(entries, 1))
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    ("options", "rewards"),
    [
        ([], [1.0, 3.0]),
        (["--weights", "click=5"], [5.0, 0.0]),
        (["--weights", "click=5,sale=1"], [5.0, 30.0]),
        (["--places", "first"], [1.0]),
        (["--places", "each", "--weights", "sale=2"], [0.0, 60.0]),
    ],
)
def test_a_servers_log_is_read_with_weights_and_places(
    tmp_path: Path, options: list[str], rewards: list[float]
) -> None:
    """By hand: a click weighs 1, a sale 0.1, unless others are given; a list is a row a position, or its first."""
    log, out = server_log(tmp_path / "server.jsonl"), tmp_path / "out.jsonl"
    rows("convert", log, *options, "--to", "jsonl", "-o", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["reward"] for line in lines if "reward" in line] == rewards


def test_criteos_options_arrive(tmp_path: Path) -> None:
    """By hand: of 2 rows one is clicked; one of no click weighs 1 / kept; propensities are 0.5, given as 2 or not."""
    path = tmp_path / "criteo.txt"
    path.write_text(
        "example 1: h 1 0.5 1 1 1:300\n0 exid:1 2:5\nexample 2: h 0 0.5 1 1 1:300\n0 exid:2 2:5\n"
    )  # a click, and none
    arguments = ("evaluate", path, "--format", "criteo", "--target", "fixed:1", "--estimator", "ips")
    assert rows(*arguments)[0]["value"] == pytest.approx(2 * 1 / 11)
    assert rows(*arguments, "--kept", "0.5")[0]["value"] == pytest.approx(2 * 1 / 3)
    path.write_text(path.read_text().replace(" 0.5 1 1 ", " 2 1 1 "))
    assert rows(*arguments, "--kept", "0.5", "--inverse")[0]["value"] == pytest.approx(2 * 1 / 3)


def test_vowpal_wabbits_log_is_read_and_said_to_learn(tmp_path: Path) -> None:
    """By hand: costs -1 and 0 at propensity 0.5; --learning makes models look at the past only."""
    path = tmp_path / "log.vw"
    path.write_text("1:-1:0.5 | x\n2:0:0.5 | x\n" * 20)
    arguments = ("evaluate", path, "--format", "vw", "--target", "fixed:1", "--q-fit", "cross", "--estimator", "dr")
    (found,), (warned,) = rows(*arguments), rows(*arguments, "--learning")
    assert found["value"] == pytest.approx(1.0, abs=0.15)
    assert "although the logging policy learned" not in found["note"]
    assert "although the logging policy learned" in warned["note"]


def test_compare_takes_confidence_baseline_and_model(path: Path) -> None:
    """The row is that of `differences.compared` with the same settings; a is better than b by as much as b than a.

    Without --looks it is a sequence, with `--looks one` the interval that the log allows.
    """
    arguments = ("compare", path, *CSV, "--target", "fixed:a", "--target", "fixed:b")
    options = ("--baseline", "fixed:b", "--alpha", "0.2", "--q", "mean", "--reward-range", "0", "2")
    (found,) = rows(*arguments, *options)
    log = read(path)
    data = Data.of(log, {"q": "mean", "reward_range": (0.0, 2.0)})
    pair = fixed(log, "a"), fixed(log, "b")
    named = {"target": "fixed:a", "baseline": "fixed:b"}
    assert found == plain({**named, **compared(data, *pair, 0.2, "any")._asdict()})
    (once,) = rows(*arguments, *options, "--looks", "one")
    assert once == plain({**named, **compared(data, *pair, 0.2)._asdict()})
    assert (found["verdict"], once["verdict"]) == ("sequence", "interval")
    (other,) = rows(*arguments, "--baseline", "fixed:a", *options[2:])
    assert other["value"] == pytest.approx(-found["value"])
    (surer,) = rows(*arguments, "--baseline", "fixed:b", "--alpha", "0.05", *options[4:])
    assert surer["low"] < found["low"] < found["high"] < surer["high"]


def test_one_half_of_a_log_selects_and_the_other_values(tmp_path: Path) -> None:
    """The rows are those of `selection.select`: values and verdicts of the half that did not choose."""
    path = write_log(tmp_path / "log.csv", n=4000, users=6)  # two users in six like a, two b, one c, one d
    names = ("fixed:d", "uniform", "fixed:a")
    targets = [each for name in names for each in ("--target", name)]
    found = rows("select", path, *CSV, *targets, "--estimator", "ips", "--alpha", "0.2", "--seed", "4")
    log = read(path)
    expected = select(log, {name: target(log, name) for name in names}, estimator="ips", alpha=0.2, seed=4)
    assert [row["target"] for row in found] == list(names)
    assert [row["choosing"] for row in found] == [each.choosing for each in expected.tried]
    assert [row["held_out_error"] for row in found] == [each.held_out_error for each in expected.tried]
    (chosen,) = [row for row in found if row["chosen"]]
    assert chosen["target"] == expected.chosen.policy == "fixed:a"
    assert (chosen["low"], chosen["high"], chosen["verdict"]) == (expected.low, expected.high, "interval")
    assert [row["behind_low"] for row in found] == [each.behind_low for each in expected.tried]


SWEPT = [(["--by", "replay", "--floor", "0.1"], {"by": "replay", "floor": 0.1}), (["--train", "0.4"], {"train": 0.4})]


@pytest.mark.parametrize(("options", "how"), SWEPT)
def test_a_sweep_on_a_log_values_every_setting_on_both_halves(
    path: Path, options: list[str], how: dict[str, Any]
) -> None:
    """The rows are those of `sweep_log`; what one half found best is told on stderr with what the other says of it."""
    grids = ("--policy", "linucb", "--grid", "explore=0,1", "--grid", "alpha=0.5", "--refresh", "50")
    arguments = ("sweep", path, *CSV, *grids, *options, "--seed", "2", "--workers", "1")
    log, grid = read(path), {"explore": [0, 1], "alpha": [0.5]}
    expected = sweep_log(log, "linucb", grid, refresh=50, seed=2, spread=serial, **how)
    assert rows(*arguments) == plain(expected.table())
    _, out, err = run(*arguments)
    best = expected.chosen
    what = "chosen" if expected.decided else "best"
    assert (
        f"{what} on one half: {best.policy}, {number(best.choosing, 5)} there, {number(best.held_out, 5)} on the "
        in err
    )
    assert expected.note in err
    assert "behind_low" in out


def test_a_floor_lets_more_rows_match_in_a_sweep(tmp_path: Path) -> None:
    """Where arm b has a propensity of 0.01, a floor of 0.5 makes ten times as many matches or more."""
    path = tmp_path / "skewed.csv"
    path.write_text("arm,click,p\n" + "a,1,0.99\n" * 990 + "b,1,0.01\n" * 10)
    arguments = ("sweep", path, *CSV, "--by", "replay", "--policy", "uniform", "--grid", "explore=0", "--workers", "1")
    few, many = rows(*arguments)[0]["matches"], rows(*arguments, "--floor", "0.5")[0]["matches"]
    assert many > 10 * few


REPLAYS: list[tuple[list[str], dict[str, Any]]] = [
    (["--c-max", "0.1"], {"c_max": 0.1}),
    (["--quantile", "0.5", "--c-max", "1"], {"quantile": 0.5, "c_max": 1.0}),
    (["--refresh", "20", "--seed", "3"], {"refresh": 20, "seed": 3}),
]


@pytest.mark.parametrize(("options", "how"), REPLAYS)
def test_an_option_of_doubly_robust_replay_is_the_librarys(path: Path, options: list[str], how: dict[str, Any]) -> None:
    """Value, matches and cuts are those of `replay_dr` with it, and others without it."""
    (found,) = rows("replay", path, *CSV, "--doubly-robust", *options)
    expected, without = replay_dr(read(path), "linucb", **how), replay_dr(read(path), "linucb")
    assert (found["value"], found["matches"], found["cut"]) == (expected.value, expected.matches, expected.cut)
    assert found["value"] != without.value


def test_doubly_robust_replay_takes_a_model_fitted_on_the_past(path: Path) -> None:
    """--q mean is that of `predictions` on the past."""
    log = read(path)
    (found,) = rows("replay", path, *CSV, "--doubly-robust", "--q", "mean", "--policy", "uniform")
    assert found["value"] == replay_dr(log, "uniform", q=predictions(model_of("mean"), log, "past")).value
    assert found["value"] != replay_dr(log, "uniform").value


def test_replay_by_matching_takes_a_floor(tmp_path: Path) -> None:
    """The row is that of `replay`; rows of smaller propensity are counted as cut."""
    path = tmp_path / "skewed.csv"
    path.write_text("arm,click,p\n" + "a,1,0.9\nb,0,0.1\n" * 300)
    (found,) = rows("replay", path, *CSV, "--policy", "uniform", "--floor", "0.5")
    expected = replay(load(path, "csv", **ROLES), "uniform", floor=0.5)
    assert (found["value"], found["matches"], found["cut"]) == (expected.value, expected.matches, 300)


def test_a_report_shows_curves_title_segment_and_confidence(path: Path, tmp_path: Path) -> None:
    """Each option leaves its mark on the page or beside it."""
    curve = Curve("a-policy-of-runs", 0, [10, 20], [0.1, 0.2], [0.5, 0.5], [0.1, 0.1])
    curves, page = tmp_path / "curves.jsonl", tmp_path / "page.html"
    curves.write_bytes(msgspec.json.encode(curve) + b"\n")
    arguments = ("report", path, *CSV, "--target", "fixed:a", "--target", "uniform", "-o", page)
    rows(*arguments)
    plain_page = page.read_text()
    options = ("--curves", curves, "--title", "Our banners", "--segment", "age", "--alpha", "0.1")
    rows(*arguments, *options, "--estimator", "ips", "--figures", tmp_path / "figures")
    made = page.read_text()
    for mark in ("a-policy-of-runs", "Our banners", "90\u00a0%"):
        assert mark in made
        assert mark not in plain_page
    assert "mrdr" in plain_page.lower()
    assert list((tmp_path / "figures").glob("*.svg"))


def test_a_log_is_converted_to_what_others_read(tmp_path: Path) -> None:
    """dsjson and JSON lines, read again with the same IPS as obp's."""
    target_file = OPEN_BANDIT / "target_bts_men.csv"
    for to, format_ in (("jsonl", "table"), ("dsjson", "dsjson")):
        out = tmp_path / f"men.{to}"
        (done,) = rows("convert", MEN, "--format", "open-bandit", "--to", to, "-o", out)
        assert (done["rows"], done["output"]) == (10_000, str(out))
        log = load(out, format_)
        assert len(log) == 10_000
        assert log.reward.sum() == 46
    (found,) = rows("evaluate", tmp_path / "men.jsonl", "--format", "table", "--target", target_file,
                    "--estimator", "ips")  # fmt: skip
    assert found["value"] == pytest.approx(0.004533560000000009, abs=1e-9)


def test_a_compressed_log_is_the_same_log(path: Path) -> None:
    """gzip, whatever the name."""
    packed = path.with_name("packed.csv")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    arguments = (*CSV, "--target", "fixed:a", "--estimator", "ips")
    assert rows("evaluate", packed, *arguments) == rows("evaluate", path, *arguments)
    log = read(path)
    assert rows("evaluate", path, *arguments)[0]["value"] == pytest.approx(
        float(np.mean(4 * log.reward * (log.arm == log.arms.index("a"))))
    )


CAPPED = "rewards above 60 count as 60: values are of these capped rewards"
CAPS: list[tuple[str, ...]] = [
    ("evaluate", "--target", "fixed:a", "--estimator", "dr"),
    ("compare", "--target", "fixed:a", "--target", "fixed:b"),
    ("select", "--target", "fixed:a", "--target", "fixed:b"),
    ("replay", "--policy", "uniform"),
    ("sweep", "--policy", "linucb", "--grid", "explore=0,1", "--workers", "1"),
]


@pytest.fixture
def money(tmp_path: Path) -> Path:
    """Two arms whose order a cap of 60 turns round."""
    lines = ["arm,click,p"]
    lines += [f"a,{400 * (i % 25 == 0)},0.5\nb,{50 * (i % 8 == 0)},0.5" for i in range(600)]
    path = tmp_path / "money.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("command", CAPS, ids=lambda each: each[0])
def test_a_cap_stands_beside_the_numbers(money: Path, command: tuple[str, ...]) -> None:
    """On stdout, above the table; as JSON in every row."""
    arguments = (command[0], money, *CSV, *command[1:], "--cap", "60")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert CAPPED in out
    assert all(row["cap"] == 60 for row in rows(*arguments))
    assert CAPPED not in run(*arguments[:-2])[1]


def test_a_report_says_its_cap_on_the_terminal_too(money: Path, tmp_path: Path) -> None:
    """Beside the page's name; as JSON with it."""
    arguments = ("report", money, *CSV, "--target", "fixed:a", "--cap", "60", "-o", tmp_path / "a.html")
    assert CAPPED in run(*arguments)[2]
    assert rows(*arguments)[0]["cap"] == 60


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Lists of two of three arms, with propensities given the positions above."""
    rng = np.random.default_rng(0)
    lines = ["id,arm,pos,click,p"]
    for i in range(1500):
        top, below = rng.permutation(3)[:2]
        lines += [f"{i},{'abc'[top]},0,{i % 3 // 2},{1 / 3}", f"{i},{'abc'[below]},1,{i % 5 // 4},0.5"]
    path = tmp_path / "lists.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


LISTED = (*CSV, "--position", "pos", "--decision-id", "id")


def test_places_of_conditional_propensities_point_to_lists(listed: Path) -> None:
    """Not to rows that may be lost; in the table's notes, in JSON, and of a comparison on stderr."""
    code, out, err = run("evaluate", listed, *LISTED, "--target", "fixed:a", "--estimator", "dr")
    assert code == 0
    assert "all: the propensities look conditional on the arms above" in out
    assert "may be lost" not in out
    assert "values are per position; --lists values whole lists" in err
    (row,) = rows("evaluate", listed, *LISTED, "--target", "fixed:a", "--estimator", "dr")
    assert row["note"].startswith("the propensities look conditional on the arms above")
    assert (
        "refused: the propensities look conditional on the arms above"
        in run("compare", listed, *LISTED, *CAPS[1][1:])[2]
    )
    assert rows("evaluate", listed, *LISTED, "--target", "uniform", "--lists", "--estimator", "standard")[0]["value"]


@pytest.mark.parametrize("command", ["evaluate", "compare", "select", "report"])
def test_a_list_as_a_target_of_places_points_to_lists(listed: Path, tmp_path: Path, command: str) -> None:
    """Not to a list of policies among which it is not; with --stream too."""
    more = ("-o", tmp_path / "a.html") if command == "report" else ()
    streams: list[tuple[str, ...]] = [(), ("--stream",)] if command == "evaluate" else [()]
    for stream in streams:
        code, out, err = run(command, listed, *LISTED, "--target", "list:a,b", "--target", "uniform", *more, *stream)
        assert (code, out) == (2, "")
        assert "list:a,b is a whole list: `evaluate --lists` values lists" in err
