"""The sentence about a lift, in every case that it has words for."""

from dataclasses import replace

from simulator.ope.lift.sentence import sentence
from simulator.ope.lift.traffic import Change, Effect, Lift

SUM = Effect(None, 3.0, 2.35, 0.65, 0.10, 1.20, 0.277, 0.04, 0.55, matured=1.0)
CLICK = Effect("clicks", 0.31, 0.25, 0.06, 0.046, 0.078, 0.24, 0.183, 0.312)
BUY = Effect("purchases", 2.9, 2.35, 0.55, -0.2, 1.3, None, None, None, more=61_234, matured=1.0)
FOUND = Lift("learned", "random", SUM, (CLICK, BUY), 40_871, 15_000, 0, (), None, False, 0.05)
UNCLEAR = replace(FOUND, effect=replace(BUY, kind=None), kinds=())


def test_a_clear_lift_says_who_beats_whom_by_how_much_and_from_what() -> None:
    """As in the documentation, letter by letter."""
    assert sentence(FOUND) == (
        "learned beats random by 0.65 a decision (0.10 to 1.20, 95 %, anytime), +28 % (+4 to +55), from 40,871 "
        "decisions; clicks +0.060 a decision, +24 % (+18 to +31); purchases: not clear yet (-0.2 to +1.3 a decision), "
        "about 61,000 decisions more"
    )


def test_a_loss_keeps_the_sign_of_policy_minus_baseline() -> None:
    """In the sum, and in a kind with and without per cent."""
    lost = Effect(None, 2.35, 3.0, -0.65, -1.2, -0.1, matured=1.0)
    few = Effect("margin", -0.5, -0.1, -0.4, -0.55, -0.25)
    assert sentence(replace(FOUND, effect=lost, kinds=(few, few))) == (
        "learned loses to random: -0.65 a decision (-1.20 to -0.10, 95 %, anytime), from 40,871 decisions; "
        "margin -0.40 a decision (-0.55 to -0.25); margin -0.40 a decision (-0.55 to -0.25)"
    )


def test_what_is_not_clear_says_how_much_longer_it_takes() -> None:
    """Or that nobody can foresee it; an end beside 0 keeps its sign."""
    assert sentence(UNCLEAR) == (
        "learned against random: not clear yet (-0.2 to +1.3 a decision, 95 %, anytime), from 40,871 decisions, "
        "about 61,000 decisions more"
    )
    never = replace(UNCLEAR, effect=Effect(None, 1.0, 1.0, 0.01, -0.5, 0.52, matured=1.0))
    assert sentence(never).endswith("from 40,871 decisions, more than 100 times as many decisions needed")
    near = replace(UNCLEAR, effect=Effect(None, 1.0, 1.0, 0.65, -0.004, 1.3, more=900, matured=1.0))
    assert "(-0.00 to +1.30 a" not in sentence(near)
    assert "(-0.004 to +1.300 a" in sentence(near)


def test_too_few_users_or_rewards_are_counted() -> None:
    """Nothing else is said of them."""
    few = replace(FOUND, missing=37)
    assert sentence(few) == (
        "learned against random: too few users to say, 37 of 100 missing in the smaller slice, from 40,871 decisions"
    )
    rare = replace(FOUND, kinds=(CLICK, Effect("purchases", 0.1, 0.0, missing=13)))
    assert sentence(rare).endswith("; purchases: too few rewards to say, 13 of 20 rewarded users missing")
    none = replace(FOUND, effect=Effect(None, 0.0, 0.0, missing=20))
    assert sentence(none) == (
        "learned against random: too few rewards to say, 20 of 20 rewarded users missing, from 40,871 decisions"
    )


def test_caps_rewards_to_come_changes_and_what_was_left_out_are_told() -> None:
    """In this order, after the numbers; and an alarm before them."""
    whole = replace(
        FOUND,
        effect=replace(SUM, matured=0.831),
        kinds=(replace(CLICK, cap=3.0), replace(BUY, cap=150.0, capped=12)),
        changes=tuple(Change(day * 86_400_000, f"change {day}") for day in range(5)),
        cut=True,
        alarm="random has 1,204 users, for 1,600 expected",
    )
    said = sentence(whole)
    assert said.startswith("not to be trusted: random has 1,204 users, for 1,600 expected; learned beats random by")
    assert "from the newest 40,871 decisions; clicks" in said
    assert said.endswith(
        "; purchases capped at 150 (12 decisions); 83 % of the reward has come so far; change 2 on 1970-01-03 00:00 "
        "UTC; change 3 on 1970-01-04 00:00 UTC; change 4 on 1970-01-05 00:00 UTC; 2 earlier changes"
    )
    assert "clicks capped" not in said  # no decision has more
    assert "has come" not in sentence(replace(FOUND, effect=replace(SUM, matured=0.995)))


def test_a_single_kind_is_told_once() -> None:
    """What the sum says already is not said again; its cap is."""
    alone = sentence(replace(FOUND, kinds=(replace(CLICK, cap=3.0, capped=1),)))
    assert alone == (
        "learned beats random by 0.65 a decision (0.10 to 1.20, 95 %, anytime), +28 % (+4 to +55), from 40,871 "
        "decisions; clicks capped at 3 (1 decision)"
    )


def test_rewards_that_may_still_come_are_told_where_nothing_says_how_long_they_take() -> None:
    """Of all kinds, or of some; where nothing has come there is nothing to say of it."""
    young = replace(FOUND, effect=replace(SUM, matured=None))
    assert sentence(replace(young, kinds=(CLICK, replace(BUY, matured=None)))).endswith(
        "; rewards may still come: the log is younger than the reward window"
    )
    assert sentence(replace(young, kinds=(replace(CLICK, matured=1.0), replace(BUY, matured=None)))).endswith(
        "; rewards may still come: nothing tells yet how long they take of purchases"
    )
    assert "may still come" not in sentence(replace(young, effect=Effect(None, 0.0, 0.0, missing=20)))


def test_more_is_told_in_two_digits() -> None:
    """Nobody knows it better."""
    for more, told in ((7, "7"), (94, "94"), (2_490, "2,500"), (61_234, "61,000"), (1_987_654, "2,000,000")):
        effect = replace(BUY, kind=None, more=more)
        assert f"about {told} decisions more" in sentence(replace(FOUND, effect=effect, kinds=()))
