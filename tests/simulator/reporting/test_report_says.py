"""The first sentences of a report: what is in doubt, a cap, changes over time, lists; and that they can be read."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import lists
from test_report import Page, world_log

from simulator.logs.loaders.csv import COPIED
from simulator.logs.loaders.server import UNSURE
from simulator.logs.log import Log
from simulator.ope.differences import Difference
from simulator.ope.evaluate import EstimatorRow
from simulator.reporting import report
from simulator.reporting.formatting import Ground, sentence

BELIEVED = "for one look this can be believed."
BELOW = "see “In doubt” before believing it."


def paged(log: Log, targets: dict[str, Any], folder: Path, **how: Any) -> Page:
    """A report, taken apart."""
    return Page(report(log, targets, folder / "a.html", how=how).read_text(encoding="utf-8"))


def two(arm: Any, reward: Any, **fields: Any) -> Log:
    """A log of two arms, half and half."""
    return Log(("a", "b"), np.asarray(arm), np.asarray(reward, float), np.full(len(arm), 0.5), **fields)


def always(log: Log, a: int) -> Any:
    """The target that always plays arm a."""
    return np.eye(log.K)[np.full(len(log), a)]


def orders(n: int = 8000, seed: int = 4) -> Log:
    """Arm a: few orders of 300 to 500; arm b: more of 20 to 60. a earns more, capped at 60 it earns less."""
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 2, n)
    a, b = rng.uniform(300, 500, n) * (rng.random(n) < 0.04), rng.uniform(20, 60, n) * (rng.random(n) < 0.12)
    return two(arm, np.where(arm == 0, a, b))


def test_a_cap_is_said_beside_every_number(tmp_path: Path) -> None:
    """In the sentence, of what was earned, above values, differences and arms; with what was earned without it."""
    log = orders()
    page = paged(log, {"a": always(log, 0), "b": always(log, 1)}, tmp_path, cap=60.0)
    cap = "ewards above 60 count as 60: values are of these capped rewards"
    assert page.sentence.startswith(f"R{cap}. With rewards so capped, “b” would have earned")
    assert "more than the" in page.sentence
    assert " of the logging policy; " in page.sentence
    assert f"R{cap}. With rewards so capped, “a” would have earned" in page.words
    assert page.words.count(f"; r{cap}") >= 3
    drawn = [given["aria-label"] for tag, given in page.tags if tag == "svg"]
    assert len(drawn) == 6
    assert page.words.count("reward per decision, capped at 60") == 6  # an axis of each, and one more of the model
    earned = f"{log.reward.mean():.2f}"
    assert re.search(
        rf"\d\u00a0% of rewards above 60 count as 60; uncapped, it earned {re.escape(earned)}\.", page.words
    )


def test_a_cap_that_turns_the_answer_round_is_in_doubt(tmp_path: Path) -> None:
    """Capped, a earns clearly less; its best guess without the cap is more: the headline points to that."""
    log = orders()
    page = paged(log, {"a": always(log, 0)}, tmp_path, cap=60.0)
    assert "In doubt: without the cap the point estimate is that “a” earns " in page.words
    assert " more than was earned: the cap reverses the sign." in page.words
    assert page.sentence.endswith(BELOW)
    assert ("p", {"class": "verdict sequence", "id": "verdict"}) in page.tags


def test_a_cap_above_all_rewards_is_said_to_do_nothing(tmp_path: Path) -> None:
    """No sentence about what was not earned."""
    log = orders()
    page = paged(log, {"a": always(log, 0)}, tmp_path, cap=600.0)
    assert page.sentence.startswith("“a” would have earned")
    assert "no reward is above the cap of 600" in page.words


@pytest.mark.parametrize(
    ("cleaning", "said"),
    [
        ({COPIED: 1500}, "1,500 decisions occur several times, more often than by chance: if these are copies, "),
        ({UNSURE: 3000}, "rewards of 3,000 decisions may still come, and count as 0: "),
        (
            {"rows dropped: no reward": 90},
            "90 rows could not be used (no reward), beside 3,000 decisions: if they differ systematically ",
        ),
        ({"rows dropped: reward outside [0, 60]": 1}, "1 row was dropped for a reward outside [0, 60]: the "),
        (
            {"rows dropped: reward outside [0, 60]": 2},
            "2 rows were dropped for a reward outside [0, 60]: the values are of the others ",
        ),
        ({"lines left out: not JSON": 900}, "900 rows could not be used (not JSON), beside 3,000 decisions: "),
    ],
)
def test_what_cleaning_found_is_in_doubt_at_the_top(tmp_path: Path, cleaning: dict[str, int], said: str) -> None:
    """The headline then does not say that it can be believed, but where the doubt is told."""
    log, uniform = world_log(cleaning=cleaning)
    page = paged(log, {"uniform": uniform}, tmp_path)
    assert page.sentence.endswith(BELOW), page.sentence
    assert f"In doubt: {said}" in page.words
    assert page.words.index("In doubt: ") < page.words.index("What each target would have earned")
    assert "None of these intervals includes what is in doubt, at the top of the page." in page.words
    assert "can be believed" not in page.words.rpartition("How to read this")[0]


@pytest.mark.parametrize(
    "cleaning",
    [
        {},
        {UNSURE: 20},
        {"rows dropped: no reward": 20},
        {"rows dropped: decision that came before": 2000},
        {"rows left out: lower positions of lists": 9000},
        {"lines left out: without a label": 2000},
    ],
)
def test_what_is_rare_or_meant_is_no_doubt(tmp_path: Path, cleaning: dict[str, int]) -> None:
    """Under one row in a hundred, repeats that were dropped, and what was left out by design."""
    log, uniform = world_log(cleaning=cleaning)
    page = paged(log, {"uniform": uniform}, tmp_path)
    assert page.sentence.endswith(BELIEVED), page.sentence
    assert "In doubt: " not in page.words
    assert ("p", {"class": "verdict interval", "id": "verdict"}) in page.tags


def test_windows_that_contradict_each_other_are_in_the_first_sentence(tmp_path: Path) -> None:
    """b earns .2 for .1, and later .02 for .1: on average nothing, and that is not the whole answer."""
    rng, n = np.random.default_rng(0), 10_000
    arm, early = rng.integers(0, 2, n), np.arange(n) < n // 2
    log = two(arm, rng.random(n) < np.where(arm == 0, 0.1, np.where(early, 0.2, 0.02)))
    said = paged(log, {"b": always(log, 1)}, tmp_path).sentence
    assert re.search(
        r"; but this changed over time: clearly more than was earned in \d of 10 windows, clearly less in \d\.$", said
    ), said
    steady = two(arm, rng.random(n) < np.where(arm == 0, 0.1, 0.2))
    assert paged(steady, {"b": always(steady, 1)}, tmp_path).sentence.endswith(BELIEVED)


def test_lists_are_counted_in_lists_and_places(tmp_path: Path) -> None:
    """2,000 lists of 3 are not 6,000 decisions, and a value is a position's."""
    page = paged(log := lists(2000, conditional=False), {"d": always(log, 3)}, tmp_path)
    assert "The log: 2,000 lists with 6,000 positions among 4 arms; the logging policy earned 0.0" in page.words
    assert re.match(r"“d” would have earned [\d.]+ per position \(", page.sentence)
    assert page.tables["differences"][0][1] == "Positions"
    assert "a decision" not in page.words.rpartition("How to read this")[0].replace("A decision counts", "")


def test_a_list_log_of_conditional_propensities_points_to_lists(tmp_path: Path) -> None:
    """Not to rows that were lost: neither in the sentence nor anywhere else."""
    page = paged(log := lists(2000, conditional=True), {"d": always(log, 3)}, tmp_path)
    assert "would have earned: the propensities look conditional on the arms above, " in page.sentence
    assert "`evaluate --lists`" in page.sentence
    assert "effective n is optimistic" not in page.sentence
    assert "may be lost" not in page.words
    assert "Perhaps: the propensities look conditional on the arms above" in page.words


def test_an_arm_with_nothing_says_zero_not_a_tiny_number(tmp_path: Path) -> None:
    """An arm shown 25 times of 5,000 without a reward: between 0 and something, never below 0."""
    rng, n, K = np.random.default_rng(1), 5000, 200
    arm = rng.integers(0, K, n)
    reward = ((rng.random(n) < 0.01) & (arm != 7)).astype(float)
    log = Log(tuple(f"item{a}" for a in range(K)), arm, reward, np.full(n, 1 / K))
    said = paged(log, {"item7": always(log, 7)}, tmp_path).sentence
    assert re.match(r"“item7” would have earned between 0 and 0\.\d+ per decision \(estimate 0\), not clearly", said), (
        said
    )
    assert "0.00000" not in said


def dr(value: float, low: float, high: float, verdict: Any = "sequence", note: str = "") -> EstimatorRow:
    """DR of a target."""
    return EstimatorRow("dr", value, low, high, 400, 1.0, 200.0, 0.1, 2.0, 1.0, 0.1, verdict, note)


def by(low: float, high: float) -> Difference:
    """A difference from what was earned."""
    return Difference((low + high) / 2, low, high, "interval", 0.1, 400, 0.1)


def test_a_guess_beyond_the_possible_rewards_is_shown_at_their_end() -> None:
    """With the estimate itself beside it, unless it is beyond by nothing that could be seen."""
    ground = Ground(0.9, (0.0, 1.0), (0.0, 1.0))
    said = sentence("a", dr(1.034, 0.8, 1.034), by(-0.1, 0.2), ground)
    assert said.startswith("“a” would have earned between 0.800 and 1.00 per decision (estimate 1.00), not clearly ")
    assert " (the estimate itself, 1.03, is beyond the possible rewards); " in said
    assert "itself" not in sentence("a", dr(1 + 1e-9, 0.8, 1 + 1e-9), by(-0.1, 0.2), ground)


def test_the_logs_own_policy_is_not_compared_with_itself(tmp_path: Path) -> None:
    """No "not clearly different (difference 0 to 0)"."""
    rng, n = np.random.default_rng(2), 4000
    log = two(rng.integers(0, 2, n), rng.random(n) < 0.1)
    page = paged(log, {"uniform": np.full((n, 2), 0.5)}, tmp_path)
    said = page.sentence
    assert re.search(r"\), and plays exactly as the logging policy did, which earned [\d.]+; ", said), said
    assert "difference" not in said
    assert page.tables["differences"][1][-1] == "the same"


def test_a_clear_difference_can_be_seen_in_the_two_values() -> None:
    """100.04 and 100.05 where the interval of the value alone made 100.0 of both."""
    ground = Ground(100.0413, (0.0, 200.0), (50.0, 150.0))
    said = sentence("b", dr(100.0462, 98.4, 101.6, "interval"), by(0.004, 0.006), ground)
    assert said.startswith(
        "“b” would have earned 100.05 per decision (98.4 to 101.6), 0.00400 to 0.00600 more than the "
    )
    assert "than the 100.04 that was earned" in said
    alike = sentence("b", dr(100.0462, 98.4, 101.6, "interval"), by(-0.004, 0.006), ground)
    assert alike.startswith("“b” would have earned 100.0 per decision")


def test_advice_is_one_sentence(tmp_path: Path) -> None:
    """What must be stated, what more it takes, and what a cap would answer, joined by words."""
    rng, n = np.random.default_rng(7), 3000
    log = two(rng.integers(0, 2, n), np.where(rng.random(n) < 0.5, 99.0, 0.0) + 9.9e7 * (np.arange(n) == n - 1))
    said = paged(log, {"a": always(log, 0)}, tmp_path).sentence
    takes = r"a normal interval needs the possible rewards to be stated \(observed: 0 to 99,000,\d+\) and some [\d,]+ "
    cap = (
        r"more decisions like these or [\d.]+ times as much exploration, or a cap of 99: the value is then of the "
        r"capped reward\.$"
    )
    assert re.search(
        f"these limits are wide, and hold only if no reward can exceed those observed: {takes}{cap}",
        said,
    ), said
    assert "e+07" not in said


def test_no_cap_is_advised_that_caps_nothing(tmp_path: Path) -> None:
    """Rewards of 0 and -1: the possible ones are to be stated as they came, and no cap of 1 is offered."""
    rng, n = np.random.default_rng(8), 400
    log = two(rng.integers(0, 2, n), -(rng.random(n) < 0.02).astype(float))
    said = paged(log, {"a": always(log, 0)}, tmp_path).sentence
    assert "the possible rewards to be stated (observed: −1 to 0)" in said
    assert "a cap of" not in said
