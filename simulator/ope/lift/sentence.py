"""A lift in one sentence.

learned beats random by 0.65 a decision (0.10 to 1.20, 95 %, anytime), from 40,871 decisions; clicks +24 % (+18 to +31);
purchases: not clear yet (-0.2 to +1.3), about 60,000 decisions more
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime

from simulator.logs.log import Log
from simulator.ope.lift.lift import REWARDED, USERS, lift_of
from simulator.ope.lift.sequence import FAR
from simulator.ope.lift.traffic import Effect, Lift, traffic_of
from simulator.wording import amount

CHANGES = 3  # of those told in the sentence
COME = 0.99  # of a reward: a share below it is told


def said_of(log: Log, alpha: float = 0.05) -> tuple[str, Lift] | None:
    """The sentence about a log's slices, and what it is from; None where it has no two slices."""
    traffic = traffic_of(log)
    lift = lift_of(traffic, alpha=alpha) if traffic else None
    return (sentence(lift), lift) if lift else None


def sentence(lift: Lift) -> str:
    """What is known of a lift, the sum of all kinds first."""
    kinds = () if lift.missing or lift.effect.missing else lift.kinds
    parts = [_head(lift), *map(_kind, kinds), *_beside(lift)]
    warned = f"not to be trusted: {lift.alarm}; " if lift.alarm else ""
    return warned + "; ".join(parts)


def _head(lift: Lift) -> str:
    """Who beats whom, by how much, how sure that is, and from what."""
    effect, pair = lift.effect, f"{lift.slice} against {lift.baseline}"
    since = f"from {'the newest ' if lift.cut else ''}{lift.decisions:,} decisions"
    if lift.missing:
        return f"{pair}: too few users to say, {lift.missing:,} of {USERS} missing in the smaller slice, {since}"
    if effect.value is None or effect.low is None or effect.high is None:
        return f"{pair}: too few rewards to say, {effect.missing:,} of {REWARDED} rewarded users missing, {since}"
    value, low, high = effect.value, effect.low, effect.high
    sure = f"{100 * (1 - lift.alpha):g} %, anytime"
    if not effect.clear:
        return f"{pair}: not clear yet ({_span(low, high)} a decision, {sure}), {since}{_more(effect, lift.decisions)}"
    places = _places(high - low, 2)
    ends = f"({low:,.{places}f} to {high:,.{places}f}, {sure}), {since}"
    if value > 0:
        return f"{lift.slice} beats {lift.baseline} by {value:,.{places}f} a decision {ends}"
    return f"{lift.slice} loses to {lift.baseline}: {value:,.{places}f} a decision {ends}"


def _kind(effect: Effect) -> str:
    """One kind, per cent where that means something."""
    if effect.value is None or effect.low is None or effect.high is None:
        return f"{effect.kind}: too few rewards to say, {effect.missing:,} of {REWARDED} rewarded users missing"
    if not effect.clear:
        return f"{effect.kind}: not clear yet ({_span(effect.low, effect.high)}){_more(effect)}"
    if effect.relative is None or effect.relative_low is None or effect.relative_high is None:
        places = _places(effect.high - effect.low, 2)
        return f"{effect.kind} {effect.value:+,.{places}f} ({effect.low:+,.{places}f} to {effect.high:+,.{places}f})"
    value, low, high = (100 * each for each in (effect.relative, effect.relative_low, effect.relative_high))
    return f"{effect.kind} {value:+,.{_places(high - low, 1)}f} % ({_span(low, high)})"


def _beside(lift: Lift) -> Iterator[str]:
    """What a reader must know beside the numbers."""
    for effect in lift.kinds:
        if effect.cap is not None and effect.capped:
            many = "decision" if effect.capped == 1 else "decisions"
            yield f"{effect.kind} capped at {amount(effect.cap)} ({effect.capped:,} {many})"
    come = lift.effect.matured
    if come is not None and come < COME:
        yield f"{math.floor(100 * come)} % of the reward has come so far"
    for change in lift.changes[-CHANGES:]:
        yield f"{change.what} on {datetime.fromtimestamp(change.time_ms / 1000, UTC):%Y-%m-%d %H:%M}"
    if (left := len(lift.changes) - CHANGES) > 0:
        yield f"{left} earlier {'change' if left == 1 else 'changes'}"


def _more(effect: Effect, decisions: int = 0) -> str:
    """How much longer it takes."""
    if effect.more is None:
        return f", more than {FAR:g} times as many decisions needed"
    return f", about {_rounded(effect.more):,} decisions more"


def _rounded(n: int) -> int:
    """Two significant digits of a small number, one of a large one: nobody knows it better."""
    if n < 10:
        return n
    return int(round(n, 1 - len(str(n)))) or n


def _span(low: float, high: float) -> str:
    """Both ends with their signs: a significant digit of half their distance, or so many that they are not 0."""
    places = max(_places(high - low, 1), min(_places(2 * min(abs(low), abs(high)), 1), _places(high - low, 3)))
    return f"{_signed(low, places)} to {_signed(high, places)}"


def _signed(x: float, places: int) -> str:
    text = f"{x:+,.{places}f}"
    return text if float(text.replace(",", "")) else text[1:]


def _places(width: float, digits: int) -> int:
    """Decimals with which half a width has so many significant digits."""
    if not width > 0:
        return digits
    return min(10, max(0, digits - 1 - math.floor(math.log10(width / 2))))
