"""The experiment document: what it takes, what it refuses and where, and how it may change."""

import json
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.document import NAME, Document, Kind, arm_spec
from bandit.core.experiment import Config, Experiment, compile_config
from bandit.core.features import Number
from bandit.core.policies import LinUCB
from bandit.core.revision import first, revise
from bandit.core.sums import CREDIT_MAX
from bandit.core.times import seconds
from bandit.core.validation import parse_document, typed_problem
from bandit.errors import Code, Problem
from bandit.serving.api.docs import EXPERIMENT
from bandit.serving.changes import with_arm, with_arms

SMALLEST = {"rewards": {"click": {}}, "arms": ["a", "b", "c"]}
AGE = {"name": "age", "type": "number", "mean": 40, "scale": 12}
A_DURATION = 'a number of seconds above 0, or a string such as "90s", "15m", "12h" or "7d"'
MARK = "m4rk3r"  # a value that no error may repeat


def document(**changes: Any) -> Document:
    """The smallest document with these fields, as a request brings it."""
    return parse_document(json.dumps({**SMALLEST, **changes}).encode())


def experiment(**changes: Any) -> Experiment:
    """The smallest experiment with these fields, checked and compiled."""
    return compile_config(first("e", document(**changes)))


# what is taken


def test_the_smallest_document_has_the_defaults_of_the_contract() -> None:
    """Rewards and arms are enough; everything else is as the contract's table says."""
    d = document()
    assert (d.features, d.status, d.fallback_arm, d.policy) == ((), "active", None, LinUCB("auto", explore="auto"))
    assert (d.lam, d.noise, d.attribution, d.reward_window) == ("auto", "auto", "last", "7d")
    assert (d.half_life, d.activation) == (None, "on_decision")
    assert d.rewards["click"] == Kind(1.0, 0.0, "sum", (0.0, 1.0), "refuse", None)
    e = experiment()
    assert e.shape == (3, 1, 1)
    assert e.window_ms == 7 * 86_400_000
    assert e.ridge.noise is None


def test_the_example_of_the_documentation_compiles() -> None:
    """What /docs shows is taken as it stands: three arms, two kinds, and the intercept, age and three columns."""
    e = compile_config(first("home", parse_document(json.dumps(EXPERIMENT).encode())))
    assert e.shape == (3, 2, 5)
    assert e.ridge.weights.tolist() == [1.0, 10.0]


def test_every_field_is_taken() -> None:
    """A document that names every field of the contract's table, each at another value than its default."""
    e = experiment(
        features=[
            AGE,
            {"name": "vip", "type": "boolean"},
            {"name": "c", "type": "category", "levels": ["x"], "other": False},
        ],
        status="paused",
        arms=["a", {"id": "b", "status": "paused"}, {"id": "c/ä ", "payload": {"x": [1, None, 1e3]}}],
        fallback_arm="b",
        policy={"type": "linucb", "alpha": 0.5, "explore": 0},
        noise=0.3,
        attribution="all",
        reward_window=90,
        half_life=None,
        activation="explicit",
        rewards={
            "click": {"weight": -1, "default": 0.25, "aggregation": "last", "range": [-1, 2], "over_range": "clip"},
            "sale": {"range": [0, 500], "unit": 0.01},
        },
        **{"lambda": 0.1},
    )
    assert e.shape == (3, 2, 4)
    assert e.active.tolist() == [True, False, True]
    assert e.defaults == (250_000, 0)
    assert e.window_ms == 90_000
    assert (e.ridge.lam, e.ridge.noise, e.ridge.s0) == (0.1, 0.3, (3 + 500) / 2)
    assert e.ridge.units.tolist() == [1e-6, 0.01]
    assert json.loads(bytes(e.arms["c/ä "].payload)) == {"x": [1, None, 1e3]}


DURATIONS = {"90s": 90, "15m": 900, "12h": 43_200, "7d": 604_800, "0.5s": 0.5, 90: 90, 1.5: 1.5}


@pytest.mark.parametrize(("text", "expected"), DURATIONS.items())
def test_durations_are_seconds_or_a_number_with_a_unit(text: Any, expected: float) -> None:
    """Every form of the contract, by hand."""
    assert seconds(document(reward_window=text).reward_window) == expected


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "a" * 64])
def test_experiments_may_be_named_so(name: str) -> None:
    """Lower-case letters, digits, dots, underscores and dashes, up to 64."""
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a" * 65, "a b", "ä", "a\n", "a/b"])
def test_experiments_may_not_be_named_so(name: str) -> None:
    """Nothing else, no newline at the end either."""
    assert not NAME.fullmatch(name)


@pytest.mark.parametrize("arm", ["a" * 128, " ", "a/b", "ä€𝄞", '"', "\\"])
def test_arms_may_be_named_so(arm: str) -> None:
    """1 to 128 characters without control characters, a slash among them."""
    assert list(experiment(arms=[arm]).arms) == [arm]


def test_an_experiment_without_arms_is_possible() -> None:
    """Arms may be put in place later."""
    assert experiment(arms=[]).shape == (0, 1, 1)


def test_limits_themselves_are_allowed() -> None:
    """The largest of everything that has a largest: payload, arms, kinds, range in units, window, lambda, alpha."""
    e = experiment(
        arms=[{"id": "a", "payload": "x" * (16 * 1024 - 2)}, *map(str, range(9_999))],
        rewards={f"k{i}": {"range": [-CREDIT_MAX, CREDIT_MAX], "unit": 1, "default": CREDIT_MAX} for i in range(16)},
        reward_window="366d",
        policy={"alpha": 1e6, "explore": 1},
        **{"lambda": 1e12},
    )
    assert e.shape == (10_000, 16, 1)
    assert e.defaults == (CREDIT_MAX,) * 16


# what is refused


def kind(**fields: Any) -> dict[str, Any]:
    """The smallest document with a second kind of reward that has these fields."""
    return {"rewards": {"click": {}, "buy/it": fields}}


def feature(**fields: Any) -> dict[str, Any]:
    """The smallest document with a second feature that has these fields."""
    return {"features": [AGE, {"name": "x", **fields}]}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # change, pointer, what the expectation says
    ({"polcy": MARK}, "/polcy", "did you mean 'policy'?"),
    ({"lam": 1}, "/lam", "did you mean 'lambda'?"),
    ({"half_life": "7d"}, "/half_life", "null"),
    ({"half_life": 3}, "/half_life", "null"),
    ({"status": "pausd"}, "/status", "did you mean 'paused'?"),
    ({"status": MARK}, "/status", '"active" or "paused"'),
    ({"status": 3}, "/status", '"active" or "paused"'),
    ({"attribution": MARK}, "/attribution", '"all", "first" or "last"'),
    ({"activation": None}, "/activation", '"explicit" or "on_decision"'),
    ({"noise": MARK}, "/noise", '"auto" or a number'),
    ({"noise": True}, "/noise", '"auto" or a number'),
    ({"policy": {"type": MARK}}, "/policy/type", '"linucb"'),
    ({"attribution": "frist"}, "/attribution", "did you mean 'first'?"),
    ({"activation": "explict"}, "/activation", "did you mean 'explicit'?"),
    ({"noise": "atuo"}, "/noise", "did you mean 'auto'?"),
    ({"noise": -0.5}, "/noise", ">= 0"),
    ({"noise": 2e12}, "/noise", "<= 1"),
    ({"lambda": 0}, "/lambda", ">= 1e-09"),
    ({"lambda": 2e12}, "/lambda", "<= 1"),
    ({"lambda": None}, "/lambda", "number"),
    ({"policy": {"type": "linucb", "alpha": -1}}, "/policy/alpha", ">= 0"),
    ({"policy": {"alpha": 2e6}}, "/policy/alpha", "<= 1"),
    ({"policy": {"explore": 1.5}}, "/policy/explore", "<= 1"),
    ({"policy": {"explor": 1}}, "/policy/explor", "did you mean 'explore'?"),
    ({"policy": {"explore": "often"}}, "/policy/explore", '"auto" or a number'),
    ({"policy": {"challengers": []}}, "/policy/challengers", "at least 1 member"),
    ({"policy": {"challengers": ["a", "a"]}}, "/policy/challengers/1", "arms that differ"),
    ({"policy": {"challengers": ["a"] * 65}}, "/policy/challengers", "at most 64 members"),
    ({"policy": {"type": "lincub"}}, "/policy/type", "did you mean 'linucb'?"),
    ({"policy": MARK}, "/policy", "object"),
    ({"reward_window": MARK}, "/reward_window", A_DURATION),
    ({"reward_window": "7w"}, "/reward_window", A_DURATION),
    ({"reward_window": "7d\n"}, "/reward_window", A_DURATION),
    ({"reward_window": "0d"}, "/reward_window", "1 millisecond"),
    ({"reward_window": "367d"}, "/reward_window", "366 days"),
    ({"reward_window": "9" * 400 + "d"}, "/reward_window", "366 days"),
    ({"reward_window": 0}, "/reward_window", A_DURATION),
    ({"reward_window": True}, "/reward_window", A_DURATION),
    ({"fallback_arm": "d"}, "/fallback_arm", "an arm of this document"),
    ({"arms": ["alpha"], "fallback_arm": "alhpa"}, "/fallback_arm", "did you mean 'alpha'?"),
    ({"arms": {"a": MARK}}, "/arms", "array"),
    ({"arms": ["a", 7]}, "/arms/1", "string"),
    ({"arms": ["a", ""]}, "/arms/1", "at least 1 "),
    ({"arms": ["a" * 129]}, "/arms/0", "at most 128 "),
    ({"arms": ["a\x00"]}, "/arms/0", "string"),
    ({"arms": ["a\n"]}, "/arms/0", "string"),
    ({"arms": ["a", "b", "a"]}, "/arms/2", "differ"),
    ({"arms": ["a", {"id": "a"}]}, "/arms/1", "differ"),
    ({"arms": [{"id": "a", "features": {"x": MARK}}]}, "/arms/0/features", "known"),
    ({"arms": [{"id": "a", "paylod": MARK}]}, "/arms/0/paylod", "did you mean 'payload'?"),
    ({"arms": [{"id": "a", "status": "retired"}]}, "/arms/0/status", '"active" or "paused"'),
    ({"arms": [{"payload": 1}]}, "/arms/0/id", "a value"),
    ({"arms": ["b", {"id": "a", "payload": MARK * 3000}]}, "/arms/1/payload", "16384 bytes"),
    ({"arms": list(map(str, range(10_001)))}, "/arms", "at most 10000 "),
    ({"rewards": {}}, "/rewards", "at least 1 "),
    ({"rewards": []}, "/rewards", "object"),
    ({"rewards": {"": {}}}, "/rewards", "at least 1 "),
    ({"rewards": {f"k{i}": {} for i in range(17)}}, "/rewards", "at most 16 "),
    (kind(wieght=1), "/rewards/buy~1it/wieght", "did you mean 'weight'?"),
    (kind(weight=MARK), "/rewards/buy~1it/weight", "number"),
    (kind(weight=1e51), "/rewards/buy~1it/weight", "<= 1e+50"),
    (kind(aggregation="sums"), "/rewards/buy~1it/aggregation", "did you mean 'sum'?"),
    (kind(aggregation=MARK), "/rewards/buy~1it/aggregation", '"first", "last" or "sum"'),
    (kind(over_range=MARK), "/rewards/buy~1it/over_range", '"clip" or "refuse"'),
    (kind(over_range="cilp"), "/rewards/buy~1it/over_range", "did you mean 'clip'?"),
    (kind(cap=0), "/rewards/buy~1it/cap", "> 0"),
    (kind(range=[0]), "/rewards/buy~1it/range", "length 2"),
    (kind(range=[0, MARK]), "/rewards/buy~1it/range/1", "number"),
    (kind(range=[0, 0]), "/rewards/buy~1it/range", "low < high"),
    (kind(range=[1, 0]), "/rewards/buy~1it/range", "low < high"),
    (kind(range=[0, 5e-324]), "/rewards/buy~1it/range", "1e-50"),
    (kind(range=[0, 1e308]), "/rewards/buy~1it/range/1", "<= 1e+50"),
    (kind(default=1.5), "/rewards/buy~1it/default", "within the range"),
    (kind(default=-0.1), "/rewards/buy~1it/default", "within the range"),
    (kind(unit=0), "/rewards/buy~1it/unit", "> 0"),
    (kind(unit=1e-9), "/rewards/buy~1it/unit", "16777216 units"),
    (kind(range=[-CREDIT_MAX - 1, 0], unit=1), "/rewards/buy~1it/unit", "16777216 units"),
    (kind(unit=1.5), "/rewards/buy~1it/unit", "within the range"),
    ({"features": {}}, "/features", "array"),
    ({"features": [AGE] * 2}, "/features/1/name", "differ"),
    ({"features": [{"name": str(i), "type": "boolean"} for i in range(1025)]}, "/features", "at most 1024 "),
    (feature(), "/features/1/type", '"boolean", "category", "hashed"'),
    (feature(type=MARK), "/features/1/type", '"boolean", "category", "hashed"'),
    (feature(type="numbr"), "/features/1/type", "did you mean 'number'?"),
    (feature(typ="number"), "/features/1/type", '"boolean", "category", "hashed"'),
    (feature(type="hashed"), "/features/1/bits", "a value"),
    (feature(type="hashed", bits=10), "/features/1/bits", "<= 9"),
    (feature(type="vector", length=0), "/features/1/length", ">= 1"),
    (feature(type="vector", length=2, missing=[1]), "/features/1", "2 numbers"),
    (feature(type="number", cycle=24, log=True), "/features/1", "no log"),
    (feature(type="number", cycle=24, mean=0, scale=1), "/features/1", "or cycle"),
    (feature(type="number", cycle=24, min=0), "/features/1", "or cycle"),
    (feature(type="number", mean=0, scale=1, missing="mean"), "/features/1/missing", "or a number"),
    (feature(type="category", levels=["a"], other=False, missing="b"), "/features/1", "to be a level"),
    (feature(type="interaction", of=["age"]), "/features/1/of", "length 2"),
    (feature(type="interaction", of=["age", "age"]), "/features/1", "two different"),
    (feature(type="interaction", of=["age", "agee"]), "/features/1/of/1", "a feature of the document"),
    (feature(type="number"), "/features/1", "mean and scale, or min and max"),
    (feature(type="number", mean=1), "/features/1", "mean and scale, or min and max"),
    (feature(type="number", mean=0, scale=0), "/features/1/scale", ">= 1e-50"),
    (feature(type="number", mean=0, scale=-1), "/features/1/scale", ">= 1e-50"),
    (feature(type="number", mean=MARK, scale=1), "/features/1/mean", "number"),
    (feature(type="number", min=3, max=3), "/features/1", "min < max"),
    (feature(type="number", min=-1e308, max=0), "/features/1/min", ">= -1e+50"),
    (feature(type="number", mean=0, scal=1), "/features/1/scal", "did you mean 'scale'?"),
    (feature(type="boolean", levels=[MARK]), "/features/1/levels", "known"),
    (feature(type="category"), "/features/1/levels", "a value"),
    (feature(type="category", levels=[]), "/features/1/levels", "at least 1 "),
    (feature(type="category", levels=["x", "x"]), "/features/1", "differ"),
    (feature(type="category", levels=["x" * 257]), "/features/1/levels/0", "at most 256 "),
    (feature(type="category", levels=[str(i) for i in range(1024)]), "/features", "1024 columns"),
    ({"features": [{"name": 'a"b', "type": "boolean"}]}, "/features/0/name", "string"),
    ({"features": [{"name": "a\n", "type": "boolean"}]}, "/features/0/name", "string"),
    ({"features": [{"type": "boolean"}]}, "/features/0/name", "a value"),
]


@pytest.mark.parametrize(
    ("change", "place", "expected"), REFUSED, ids=[f"{i}{p}" for i, (_, p, _) in enumerate(REFUSED)]
)
def test_a_bad_document_is_refused_where_it_is_bad(change: dict[str, Any], place: str, expected: str) -> None:
    """`invalid_experiment` with a pointer to the place, what is expected there with the nearest name, and no value."""
    with pytest.raises(Problem) as caught:
        experiment(**change)
    problem = caught.value
    assert problem.code == Code.INVALID_EXPERIMENT
    assert [fault.pointer for fault in problem.faults] == [place]
    assert expected in problem.faults[0].expected
    assert "regex" not in problem.detail  # patterns are for programs
    assert repr(place.rpartition("/")[2]) not in problem.faults[0].expected  # a name is no hint for itself
    assert MARK not in problem.detail + str(problem.faults)


def test_an_error_lists_the_values_of_a_field() -> None:
    """As it reads: where, each value that is possible, the nearest of them where one is near, and that it was none."""
    for sent, told in {
        "gone": '/status: expected "active" or "paused", got another value',
        "pausd": '/status: expected "active" or "paused"; did you mean \'paused\'?, got another value',
    }.items():
        with pytest.raises(Problem) as caught:
            document(status=sent)
        assert caught.value.detail == told


def test_values_are_listed_for_a_part_that_is_sent_alone() -> None:
    """A list of arms, or one arm, is told of as within the document, from where it begins itself."""
    sent: list[tuple[Callable[[], object], str]] = [
        (lambda: with_arms(b'["a", {"id": "b", "status": "gone"}]'), '/1/status: expected "active" or "paused", got'),
        (
            lambda: with_arm("a", b'{"status": 7}', merge=False)(document()),
            '/status: expected "active" or "paused", got',
        ),
        (
            lambda: with_arms(b'[{"id": "b", "staus": "paused"}]'),
            "/0/staus: expected a field that is known; did you mean",
        ),
    ]
    for send, told in sent:
        with pytest.raises(Problem) as caught:
            send()
        assert caught.value.detail.startswith(told)


class Thompson(msgspec.Struct, tag="thompson"):
    """A policy that is not there yet."""

    draws: Literal["each", "shared"] = "each"


class Later(msgspec.Struct):
    """A document of a later version."""

    policy: LinUCB | Thompson


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"type": "tompson"}, '/policy/type: expected "linucb" or "thompson"; did you mean \'thompson\'?'),
        ({}, '/policy/type: expected "linucb" or "thompson", got nothing'),
        ({"type": "thompson", "draws": "all"}, '/policy/draws: expected "each" or "shared", got another value'),
        ({"type": "linucb", "alhpa": 1}, "/policy/alhpa: expected a field that is known; did you mean 'alpha'?"),
    ],
)
def test_a_new_policy_needs_no_edit_of_its_errors(policy: dict[str, Any], told: str) -> None:
    """Types, values and fields are taken from the structs: one more in a union is told of at once."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"policy": policy}, Later)
    problem = typed_problem(caught.value, Code.INVALID_EXPERIMENT, Later)
    assert problem.detail.startswith(told)


@pytest.mark.parametrize("missing", ["arms", "rewards"])
def test_a_document_without_arms_or_rewards_is_refused(missing: str) -> None:
    """The two fields that have no default are named where they are missing."""
    with pytest.raises(Problem) as caught:
        parse_document(json.dumps({k: v for k, v in SMALLEST.items() if k != missing}).encode())
    assert [fault.pointer for fault in caught.value.faults] == [f"/{missing}"]


def test_several_faults_are_named_together() -> None:
    """What only the whole document shows is told at once: an arm twice, a fallback that is none, a default outside."""
    with pytest.raises(Problem) as caught:
        experiment(arms=["a", "a"], fallback_arm="b", rewards={"click": {"default": 2}}, reward_window="999d")
    places = ["/arms/1", "/fallback_arm", "/rewards/click/default", "/reward_window"]
    assert [fault.pointer for fault in caught.value.faults] == places


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nul", b'{"arms": ["a",]}', b"\xff", b'{"arms": ["\xff"]}', b'{"a": NaN}x',
        b'{"rewards": {"click": {"weight": NaN}}, "arms": []}',
        b'{"rewards": {"click": {"weight": 1e999}}, "arms": []}',
        b'{"rewards": {"click": {"weight": 1%s}}, "arms": []}' % (b"0" * 400),
 b'{"arms": [1e999], "rewards": {}}',
        b'{"rewards": {"click": {"weight": "x"}},', b'{"lambda": "x", "arms": [NaN]}',
        b'{"arms": ["\\ud800"], "rewards": {}}',
    ],
)  # fmt: skip
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    """Not JSON in UTF-8, NaN, 1e999, lone surrogates: `malformed`, wherever the first fault of another kind is."""
    with pytest.raises(Problem) as caught:
        parse_document(body)
    assert (caught.value.code, caught.value.faults) == (Code.MALFORMED, ())


def test_a_kind_told_twice_is_refused_without_failing() -> None:
    """A second `rewards` hides the first one's fault from whoever looks for its name: still a problem, no crash."""
    for second in (b"[]", b"{}", b'{"click": {}}'):
        with pytest.raises(Problem) as caught:
            parse_document(b'{"rewards": {"click": {"weight": "x"}}, "rewards": ' + second + b', "arms": []}')
        assert caught.value.code == Code.INVALID_EXPERIMENT


# rewards in units


@pytest.mark.parametrize(
    ("range_", "unit"),
    [((0, 1), 1e-6), ((0, 0.3), 1e-7), ((-35, 5), 1e-5), ((0, 500), 1e-4), ((0, 1000), 1e-3), ((0, 999.9), 1e-4),
     ((1000, 1001), 1e-3), ((0, 2e7), 10.0), ((-1e50, 0), 1e44), ((0, 1e-50), 1e-56)],
)  # fmt: skip
def test_the_default_unit_is_a_millionth_of_the_range_rounded_down_to_a_power_of_ten(
    range_: tuple[float, float], unit: float
) -> None:
    """By hand; so a range reaches between 10^6 and 10^7 units from 0, within the 2^24 that are exact."""
    found = Kind(range=range_)
    assert found.step == unit
    assert 1e6 * (1 - 1e-9) <= max(map(abs, range_)) / found.step < 1e7


@given(st.integers(-(10**6), 10**6))
@settings(max_examples=200, deadline=None)
def test_decimal_rewards_come_back_as_they_were_written(millionths: int) -> None:
    """Every reward of six decimals in [-1, 1] is a whole number of millionths and reads back as the same float."""
    value = float(f"{millionths}e-6")
    assert Kind(range=(-1, 1)).credit(value) == millionths
    assert Kind(range=(-1, 1)).value(millionths) == value


@given(st.integers(-50_000, 50_000))
@settings(max_examples=100, deadline=None)
def test_money_comes_back_as_it_was_written(cents: int) -> None:
    """The same in units of a cent, up to 500; and 0.3 is 0.3, not 0.30000000000000004."""
    money = Kind(range=(-500, 500), unit=0.01)
    assert money.credit(cents / 100) == cents
    assert money.value(cents) == cents / 100
    assert money.value(money.credit(0.3)) == Kind().value(Kind().credit(0.3)) == 0.3


def test_units_above_1_and_odd_ones() -> None:
    """A unit of 1,000 or of 0.25 is exact; one of 0.07 is as near as floats come."""
    assert Kind(range=(0, 1e6), unit=1000).value(7) == 7000.0
    assert Kind(unit=0.25).value(Kind(unit=0.25).credit(0.75)) == 0.75
    odd = Kind(range=(0, 7), unit=0.07)
    assert odd.value(odd.credit(0.21)) == pytest.approx(0.21, rel=1e-15)


def test_credits_far_out_of_range_stop_where_integers_hold_them() -> None:
    """1e308 in units of 1e-6 would be no integer of 32 bits: it stops at 2^26, beyond every range."""
    assert Kind().credit(1e308) == 2**26
    assert Kind().credit(-1e308) == -(2**26)
    assert Kind(range=(0, CREDIT_MAX), unit=1).credit(CREDIT_MAX + 1) == CREDIT_MAX + 1


# changes


def changed(before: Config, *, learned: bool = True, reset: bool = False, **changes: Any) -> Config:
    """The config after the smallest document with these fields has replaced another; it compiles."""
    after = revise(before, document(**changes), learned=learned, reset=reset)
    compile_config(after)
    return after


def start(**changes: Any) -> Config:
    """The config of a new experiment."""
    return first("e", document(**changes))


def test_an_experiment_starts_at_version_generation_and_schema_1() -> None:
    """Arms and kinds are numbered in the document's order."""
    config = start(rewards={"b": {}, "a": {}})
    assert (config.version, config.generation, config.schema) == (1, 1, 1)
    assert (config.index, config.kinds) == (("a", "b", "c"), ("b", "a"))


def test_each_change_is_a_new_version_of_the_same_generation() -> None:
    """Live settings leave generation and schema alone, learned or not."""
    live = {"policy": {"alpha": 2}, "lambda": 3, "noise": 1, "reward_window": "1d"}
    for learned in (True, False):
        config = changed(
            start(), learned=learned, **live, rewards={"click": {"weight": 3, "over_range": "clip", "cap": 9}}
        )
        assert (config.version, config.generation, config.schema) == (2, 1, 1)
    arms = [*msgspec.to_builtins(start().document.arms), "new"]
    slices = {"learned": {}, "random": {"share": 0.1}}
    for more in ({"arms": arms}, {"slices": slices}):  # what a server has not heard of must not be in its records
        assert changed(start(), learned=True, **more).schema == 2


def test_what_takes_something_away_is_a_new_schema() -> None:
    """A server that has not heard of it is refused by the store, and decides anew: an arm given back is no such thing.

    Whether anything is decided, and what is answered otherwise, is one both ways.
    """
    names = [arm_spec(arm).id for arm in start().document.arms]
    first_paused = [{"id": names[0], "status": "paused"}, *names[1:]]
    both_ways: list[dict[str, Any]] = [{"status": "paused"}, {"fallback_arm": names[0]}]
    one_way: list[dict[str, Any]] = [{"arms": names[1:]}, {"arms": first_paused}]
    for fields, after in [(each, 3) for each in both_ways] + [(each, 2) for each in one_way]:
        less = changed(start(), learned=True, **fields)
        assert less.schema == 2
        back = changed(less, learned=True, status="active", arms=names, fallback_arm=None)
        assert back.schema == after


def test_an_index_of_an_arm_is_never_used_again() -> None:
    """Arms left out keep their index, new ones come after all that ever were, in whatever order they are written."""
    config = changed(changed(start(), arms=["c", "d"]), arms=["e", "d"])
    assert config.index == ("a", "b", "c", "d", "e")
    active = compile_config(config).active
    assert active.tolist() == [False, False, False, True, True]


def test_a_retired_arm_that_is_named_again_is_the_same_arm() -> None:
    """Its index is the one it had, so it has what it had learned."""
    revived = compile_config(changed(changed(start(), arms=["a"]), arms=["b", "a"]))
    assert revived.arm("b", "/arm") == 1
    assert revived.active.tolist() == [True, True, False]
    assert revived.shape[0] == 3


@given(st.lists(st.lists(st.sampled_from("abcdefg"), unique=True), min_size=1, max_size=6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_indices_only_grow(lists: list[list[str]], learned: bool) -> None:
    """Over any history of arm lists each earlier index is a prefix of the later ones, and no arm is in it twice."""
    config = start(arms=[])
    for arms in lists:
        before, config = config, changed(config, arms=arms, learned=learned)
        assert config.index[: len(before.index)] == before.index
        assert len(set(config.index)) == len(config.index)
        assert {name for name, on in zip(config.index, compile_config(config).active, strict=True) if on} == set(arms)


TWO = {"click": {}, "sale": {"range": [0, 500]}}


def test_kinds_are_appended_once_learned() -> None:
    """Whatever their order in the new document, old kinds keep their index and new ones follow; schema rises."""
    config = changed(start(), rewards={"sale": {"range": [0, 500]}, "click": {}})
    assert (config.kinds, config.schema) == (("click", "sale"), 2)
    assert changed(config, rewards=TWO).schema == 2


@pytest.mark.parametrize(
    ("rewards", "place"),
    [
        ({"click": {}}, "/rewards/sale"),
        ({"sale": TWO["sale"]}, "/rewards/click"),
        ({**TWO, "sale": {"range": [0, 499]}}, "/rewards/sale/range"),
        ({**TWO, "sale": {"range": [1, 501]}}, "/rewards/sale/range"),
        ({**TWO, "sale": {"range": [0, 500], "unit": 0.01}}, "/rewards/sale"),
        ({**TWO, "click": {"default": 0.5}}, "/rewards/click"),
        ({**TWO, "click": {"range": [0, 0]}}, "/rewards/click/range"),
    ],
)
def test_fixed_parts_are_fixed_once_learned(rewards: dict[str, Any], place: str) -> None:
    """Kinds, defaults and units cannot change under sums that were made with them, and no range can lose a part."""
    with pytest.raises(Problem) as caught:
        revise(start(rewards=TWO), document(rewards=rewards), learned=True, reset=False)
    assert caught.value.code == Code.INVALID_EXPERIMENT
    assert [fault.pointer for fault in caught.value.faults] == [place]
    assert "reset" in caught.value.detail


@pytest.mark.parametrize(
    "rewards",
    [
        {"click": {}},
        {"sale": TWO["sale"], "click": {}},
        {"view": {}},
        {**TWO, "sale": {"range": [0, 501]}},
        {**TWO, "sale": {"range": [0, 500], "unit": 0.01}},
        {**TWO, "click": {"default": 0.5}},
        {**TWO, "click": {"aggregation": "last"}},
    ],
)
def test_fixed_parts_may_change_before_anything_is_learned(rewards: dict[str, Any]) -> None:
    """The same generation goes on with exactly the new document's kinds, and a new schema."""
    config = changed(start(rewards=TWO), learned=False, rewards=rewards)
    assert config.kinds == tuple(rewards)
    assert (config.version, config.generation, config.schema) == (2, 1, 2)


def test_a_wider_range_keeps_the_unit_that_the_kind_began_with() -> None:
    """Its default would be another by now, and what was credited is in the old one; written out it is the same."""
    before = start(rewards=TWO)
    wider = changed(before, rewards={**TWO, "sale": {"range": [-20, 1_500]}})
    kind = compile_config(wider).kinds[1]
    assert (wider.units, wider.schema, kind.step, kind.range) == ({"sale": 1e-4}, 2, 1e-4, (-20, 1_500))
    assert kind.credit(1_500) == 15_000_000
    again = changed(wider, arms=["z"], rewards={**TWO, "sale": {"range": [-20, 1_500]}})
    assert (again.units, again.schema) == ({"sale": 1e-4}, 3)  # for an arm that was shown
    written = changed(wider, rewards={**TWO, "sale": {"range": [-20, 1_500], "unit": 1e-4}})
    assert (written.units, written.schema) == ({}, 2)
    assert changed(wider, reset=True, rewards={**TWO, "sale": {"range": [-20, 1_500]}}).units == {}


def test_a_range_is_at_most_2_24_of_its_own_units_wide() -> None:
    """Also of those that it began with."""
    with pytest.raises(Problem) as caught:
        compile_config(changed(start(rewards=TWO), rewards={**TWO, "sale": {"range": [0, 2_000]}}))
    assert [fault.pointer for fault in caught.value.faults] == ["/rewards/sale/unit"]


def test_an_aggregation_changes_for_what_comes() -> None:
    """A server that judges by the old one is refused."""
    assert changed(start(rewards=TWO), rewards={**TWO, "click": {"aggregation": "last"}}).schema == 2


def test_the_same_unit_written_out_is_no_change() -> None:
    """A unit that equals the default unit, and a weight, are not fixed parts."""
    config = changed(start(rewards=TWO), rewards={"click": {"unit": 1e-6, "weight": 4}, "sale": TWO["sale"]})
    assert config.schema == 1


def test_the_same_features_written_otherwise_are_no_change() -> None:
    """40 and 40.0, or a default written out, mean the same."""
    before = start(features=[AGE, {"name": "c", "type": "category", "levels": ["x"]}])
    same = [{**AGE, "mean": 40.0, "scale": 12.0}, {"name": "c", "type": "category", "levels": ["x"], "other": True}]
    assert changed(before, features=same).schema == 1


def test_a_reset_forgets_retired_arms_and_kinds() -> None:
    """A new generation has exactly the document's arms and kinds, whatever was before."""
    before = changed(start(rewards=TWO), rewards={**TWO, "view": {}}, arms=["c", "d"])
    config = changed(before, reset=True, arms=["d"], rewards={"view": {}})
    assert (config.index, config.kinds) == (("d",), ("view",))
    assert (config.version, config.generation, config.schema) == (3, 2, 3)


def test_a_deleted_experiment_that_is_created_again_is_a_new_generation() -> None:
    """Version, generation and schema go on, so nothing of the old one can be taken for the new one's."""
    deleted = msgspec.structs.replace(changed(start()), deleted=True, version=3)
    config = revise(deleted, document(arms=["x"], features=[AGE]), learned=True, reset=False)
    assert (config.version, config.generation, config.schema, config.deleted) == (4, 2, 2, False)
    assert config.index == ("x",)


def test_a_config_comes_back_from_json_as_it_was() -> None:
    """What the store keeps and the log records is read as written, payloads and retired arms included."""
    config = changed(
        start(rewards=TWO, features=[AGE]),
        rewards={**TWO, "view": {"default": 1, "over_range": "clip"}},
        features=[AGE],
        arms=[{"id": "x", "payload": {"a": 1e3}}, "b"],
        reward_window=90,
        noise=0.5,
    )
    text = msgspec.json.encode(config)
    again = msgspec.json.decode(text, type=Config)
    assert msgspec.json.encode(again) == text
    assert (again.index, again.kinds, again.document.features) == (config.index, config.kinds, config.document.features)
    assert compile_config(again).shape == (4, 3, 2)


# a compiled experiment


def test_s0_is_half_the_range_of_the_weighted_reward() -> None:
    """|w| times the spans, halved: click (1 x 1) and refund (-2 x 40) make 81 / 2; a weight of 0 leaves almost none."""
    e = experiment(rewards={"click": {}, "refund": {"weight": -2, "range": [-35, 5]}})
    assert e.ridge.s0 == 81 / 2
    assert 0 < experiment(rewards={"click": {"weight": 0}}).ridge.s0 < 1e-200


def test_an_unknown_arm_is_named_with_the_nearest_that_may_be_shown() -> None:
    """A retired arm still has its index; one that never was has a problem with a hint, and paused arms are no hint."""
    config = changed(start(), arms=["apple", {"id": "aple", "status": "paused"}])
    e = compile_config(config)
    assert e.arm("b", "/arm") == 1
    with pytest.raises(Problem) as caught:
        e.arm("appl", "/candidates/0")
    assert caught.value.code == Code.UNKNOWN_ARM
    assert caught.value.faults[0].pointer == "/candidates/0"
    assert "did you mean 'apple'?" in caught.value.faults[0].expected


def test_the_largest_allowed_numbers_stay_finite() -> None:
    """Weights and ranges at their limits: s0, its square and the units are numbers, so no score becomes NaN."""
    e = experiment(rewards={f"k{i}": {"weight": -1e50, "range": [-1e50, 1e50]} for i in range(16)})
    assert np.isfinite(e.ridge.s0**2)
    assert np.isfinite(e.ridge.units).all()
    tiny = experiment(rewards={"k": {"range": [0, 1e-50]}})
    assert tiny.ridge.s0**2 > 0
    assert (tiny.ridge.units**2 > 0).all()


def test_features_are_compiled_in_their_order() -> None:
    """The encoder is that of the document's features."""
    e = experiment(features=[AGE])
    assert e.encoder.features == (Number("age", mean=40, scale=12),)
