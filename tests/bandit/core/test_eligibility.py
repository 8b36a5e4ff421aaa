"""Which arms conditions and dates leave, against looking at each arm by itself; and that many conditions stay quick."""

import time
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandit.core.document import ArmSpec
from bandit.core.eligibility import Bounds, gate_of
from bandit.core.times import instant

VALUES = st.sampled_from([0, 1, 2.5, -0.0, "a", "b", "", True, False])
BOUNDS = st.builds(Bounds, min=st.sampled_from([-1.0, 0.0, 1.0]), max=st.sampled_from([0.0, 1.0, 3.0]))
CONDITIONS = st.lists(VALUES, min_size=1, max_size=3).map(tuple) | BOUNDS
WHEN = st.dictionaries(st.sampled_from("xyz"), CONDITIONS, max_size=3)
DATES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00+01:00", "2026-01-03T00:00:00Z"])
ARMS = st.builds(
    lambda when, since, until: ArmSpec("a", when=when, **since, **until),
    WHEN,
    st.just({}) | DATES.map(lambda date: {"since": date}),
    st.just({}) | DATES.map(lambda date: {"until": date}),
)
TIMES = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T23:00:00Z", "2026-01-02T12:00:00Z", "2026-01-03T00:00:00Z"]
)


def fits(value: Any, condition: Any) -> bool:
    """By the words of the page: one of the values, of the same type, or between the ends."""
    if isinstance(condition, Bounds):
        return type(value) in (int, float) and condition.min <= value <= condition.max  # type: ignore[operator]
    number = (int, float)
    return any(value == each and ((type(value) in number) == (type(each) in number)) for each in condition)


@given(st.lists(ARMS | st.none(), min_size=1, max_size=6), st.dictionaries(st.sampled_from("xyz"), VALUES), TIMES)
def test_what_is_left_is_what_each_arm_says_by_itself(
    arms: list[ArmSpec | None], context: dict[str, Any], time: str
) -> None:
    """Twice: the second time it is remembered."""
    now, active = instant(time) or 0, np.array([arm is not None for arm in arms])
    expected = [
        arm is not None
        and all(name in context and fits(context[name], condition) for name, condition in (arm.when or {}).items())
        and (not arm.since or (instant(arm.since) or 0) <= now)
        and (not arm.until or now < (instant(arm.until) or 0))
        for arm in arms
    ]
    gate = gate_of(active, arms)
    for _ in range(2):
        assert (active if gate is None else gate.eligible(context, now)).tolist() == expected


def test_ten_thousand_conditions_take_some_milliseconds_and_megabytes() -> None:
    """A matrix of conditions by arms took 100 MB, and a second a decision."""
    arms = [ArmSpec(f"a{i}", when={"x": Bounds(min=float(i)), "y": (f"y{i}", "all")}) for i in range(10_000)]
    gate = gate_of(np.ones(10_000, bool), arms)
    assert gate is not None
    began = time.process_time()
    for i in range(50):
        assert gate.eligible({"x": i, "y": "all"}, 0).sum() == i + 1
    assert (time.process_time() - began) / 50 < 0.02
    assert sum(mask.nbytes + len(key[1]) for key, mask in gate._found.items()) < 8 << 20
