"""Why a log is refused, guessed from its propensities: a rounded third, or positions of lists given those above."""

from dataclasses import replace

import numpy as np
from logs import lists

from simulator.logs.log import Log
from simulator.ope.checks.reasons import LOST, explained, likely
from simulator.ope.evaluate import evaluate


def test_propensities_given_the_places_above_are_told_of() -> None:
    """Where positions below the first have too little 1 / p, and the first ones do not; never of marginal ones."""
    (said,) = likely(lists(2000, conditional=True))
    assert said.startswith("the propensities look conditional on the arms above")
    assert "evaluate --lists" in said
    assert "--decision-id" not in said
    assert "--decision-id" in likely(replace(lists(2000, conditional=True), decision_id=None))[0]
    assert likely(lists(2000, conditional=False)) == []


def test_a_log_whose_first_places_are_wrong_too_has_another_fault() -> None:
    """Half of the shown arms' true propensities, at every position: nothing is said of positions."""
    log = lists(2000, conditional=False)
    assert likely(replace(log, propensity=log.propensity / 2)) == []


def test_a_rounded_third_is_told_of() -> None:
    """.33 and .3333 of three arms, not 1/3 itself, nor a half of three arms."""
    log = Log(tuple("abc"), np.arange(600) % 3, np.zeros(600), np.full(600, 0.33))
    assert likely(log) == [
        "a propensity of 0.33 for 3 arms looks like 1/3 rounded: give all its digits, 0.333333333333"
    ]
    assert len(likely(replace(log, propensity=np.full(600, 0.3333)))) == 1
    assert likely(replace(log, propensity=np.full(600, 1 / 3))) == []
    assert likely(replace(log, propensity=np.full(600, 0.5))) == []


def test_a_reason_takes_the_place_of_a_worse_guess() -> None:
    """Of a refused log of lists the notes of `evaluate` no longer say that rows may be lost."""
    log = lists(2000, conditional=True)
    (row,) = evaluate(log, np.full((len(log), 4), 0.25), estimators=["ips"])
    assert row.verdict == "refused"
    assert LOST in row.note
    said = explained(row.note, likely(log))
    assert said.startswith("the propensities look conditional on the arms above")
    assert LOST not in said
    assert explained(row.note, []) == row.note
