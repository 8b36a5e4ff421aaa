"""Numbers and standing phrases for people: one way to write them, by hand."""

import pytest

from simulator.wording import amount, both, capped, counted, noted, number, ranged


def test_what_is_tiny_beside_its_interval_is_zero() -> None:
    """An estimate of -.00000005 between 0 and .08 is 0, and so is an end; a small value of a wide interval is none."""
    assert ranged(-5.06e-8, -5.06e-8, 0.0807) == ("0", "0", "0.0807")
    assert ranged(-0.0001, -0.5, 0.5) == ("−0.000100", "−0.500", "0.500")
    assert ranged(3e-8, 1e-8, 5e-8) == ("0.0000000300", "0.0000000100", "0.0000000500")


def test_digits_are_counted_after_rounding() -> None:
    """.09998 is .100 in three digits, not .1000."""
    assert both(0.106, 0.09998, 0.11199) == ("0.106", "0.100 to 0.112")
    assert number(0.09998) == "0.100"
    assert number(999.96) == "1,000"


def test_large_numbers_have_no_exponent() -> None:
    """61,278,527 with its digits grouped, alone and beside an interval."""
    assert ranged(61278527.3, 57386447.0, 66070342.2) == ("61,278,527", "57,386,447", "66,070,342")
    assert amount(123456789.12) == "123,456,789.12"
    assert amount(-25.5) == "−25.5"
    assert (amount(0.0), amount(1.5e-7), amount(1e30)) == ("0", "0.00000015", "1.00e+30")


@pytest.mark.parametrize(
    ("count", "what", "said"),
    [
        (1, "rows dropped: no reward", "1 row dropped: no reward"),
        (2, "rows dropped: no reward", "2 rows dropped: no reward"),
        (1, "columns of context: age", "1 column of context: age"),
        (1, "categories cut to their 50 most frequent values", "1 category cut to its 50 most frequent values"),
        (1, "files without their last line: perhaps cut short", "1 file without its last line: perhaps cut short"),
        (1, "rows that are duplicated: intervals are", "1 row that is duplicated: intervals are"),
        (1, "columns of context that look like numbers", "1 column of context that looks like numbers"),
        (1, "deferred and never activated", "1 deferred and never activated"),
        (1234, "lines left out: not JSON", "1,234 lines left out: not JSON"),
    ],
)
def test_one_is_told_in_the_singular(count: int, what: str, said: str) -> None:
    """By hand, of what loaders count."""
    assert counted(count, what) == said


def test_a_cap_is_told_unless_it_caps_nothing() -> None:
    """What it does to every number; of a cap above all rewards, that it does nothing."""
    assert capped(None) == ""
    assert capped(60.0) == "rewards above 60 count as 60: values are of these capped rewards"
    assert capped(1250.5, 2000.0) == "rewards above 1,250.5 count as 1,250.5: values are of these capped rewards"
    assert capped(60.0, 59.0) == "no reward is above the cap of 60"


def test_notes_for_people_have_no_exponents_and_say_what_a_cap_answers() -> None:
    """Other words stay as they are."""
    assert noted("state the possible rewards: 9.9e+07 is the largest") == (
        "state the possible rewards: 99,000,000 is the largest"
    )
    old = "or a cap: an interval for rewards that count 1.2e+03 at most (cap=1.2e+03)"
    assert noted(old) == "or a cap of 1,200 (cap=1.2e+03): the value is then of the capped reward"
    assert noted("a normal interval needs some 15 more decisions like these, or 1 times as much exploration") == (
        "a normal interval needs some 15 more decisions like these"
    )
    assert noted(f"tau 4.5; {old}; x").startswith("tau 4.5; or a cap of 1,200 (")
    assert noted("tau inf") == "tau ∞, the same as DR"
    assert noted("tau 4.5") == "tau 4.5"
