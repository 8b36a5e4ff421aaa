"""A lift in one sentence.

learned beats random by 0.65 a decision (0.10 to 1.20, 95 %, anytime), +28 % (+4 to +55), from 40,871 decisions;
clicks +0.060 a decision, +24 % (+18 to +31); purchases: not clear yet (-0.2 to +1.3 a decision), about 61,000 decisions
more
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bandit.core.times import time_of
from simulator.logs.log import Log
from simulator.ope.lift.lift import REWARDED, USERS, lift_of
from simulator.ope.lift.pair import Pair, pair_of, wrong
from simulator.ope.lift.sequence import FAR
from simulator.ope.lift.traffic import Effect, Lift, traffic_of
from simulator.wording import amount

CHANGES = 3  # of those told in the sentence
COME = 0.99  # of a reward: a share below it is told


def said_of(log: Log, alpha: float = 0.05, pair: Pair | None = None) -> tuple[str, Lift] | None:
    """The sentence about a log's slices, and what it is from; None where it has no two slices.

    Raises:
        ValueError: the log has no slice of a name that is asked for.
    """
    if pair is not None and (found := wrong(pair, log.slices)) is not None:
        raise ValueError(f"{found[0]}: expected {found[1]}, got {getattr(pair, found[0])!r}")
    traffic = traffic_of(log)
    indices = pair_of(traffic, pair) if traffic else None
    lift = lift_of(traffic, indices, alpha) if traffic and indices else None
    return (sentence(lift), lift) if lift else None


def told(lift: Lift) -> dict[str, Any]:
    """The sentence and all that it is from, as a server answers it and as `--json` has it."""
    fields = asdict(lift)
    changes = [{"time": time_of(each.time_ms), "what": each.what} for each in lift.changes]
    confidence = 1 - fields.pop("alpha")
    return {"sentence": sentence(lift), **fields, "changes": changes, "confidence": confidence}


def sentence(lift: Lift) -> str:
    """What is known of a lift, the sum of all kinds first."""
    same = len(lift.kinds) == 1  # what the sum says already
    kinds = () if same or lift.missing or lift.effect.missing else lift.kinds
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
    ends = f"({low:,.{places}f} to {high:,.{places}f}, {sure}){_relative(effect)}, {since}"
    if value > 0:
        return f"{lift.slice} beats {lift.baseline} by {value:,.{places}f} a decision {ends}"
    return f"{lift.slice} loses to {lift.baseline}: {value:,.{places}f} a decision {ends}"


def _kind(effect: Effect) -> str:
    """One kind: how much, and how sure that is, in per cent where that means something."""
    if effect.value is None or effect.low is None or effect.high is None:
        return f"{effect.kind}: too few rewards to say, {effect.missing:,} of {REWARDED} rewarded users missing"
    if not effect.clear:
        return f"{effect.kind}: not clear yet ({_span(effect.low, effect.high)} a decision){_more(effect)}"
    places = _places(effect.high - effect.low, 2)
    ends = f" ({effect.low:+,.{places}f} to {effect.high:+,.{places}f})"
    return f"{effect.kind} {effect.value:+,.{places}f} a decision{_relative(effect) or ends}"


def _relative(effect: Effect) -> str:
    """The same as a share of the baseline, where that means something."""
    if effect.relative is None or effect.relative_low is None or effect.relative_high is None:
        return ""
    value, low, high = (100 * each for each in (effect.relative, effect.relative_low, effect.relative_high))
    return f", {value:+,.{_places(high - low, 1)}f} % ({_span(low, high)})"


def _beside(lift: Lift) -> Iterator[str]:
    """What a reader must know beside the numbers."""
    for effect in lift.kinds:
        if effect.cap is not None and effect.capped:
            many = "decision" if effect.capped == 1 else "decisions"
            yield f"{effect.kind} capped at {amount(effect.cap)} ({effect.capped:,} {many})"
    yield from _to_come(lift)
    for change in lift.changes[-CHANGES:]:
        yield f"{change.what} on {datetime.fromtimestamp(change.time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    if (left := len(lift.changes) - CHANGES) > 0:
        yield f"{left} earlier {'change' if left == 1 else 'changes'}"


def _to_come(lift: Lift) -> Iterator[str]:
    """Whether rewards of these decisions are still on their way."""
    come = lift.effect.matured
    if not (lift.effect.mean or lift.effect.baseline):
        return
    if come is not None and come < COME:
        yield f"{math.floor(100 * come)} % of the reward has come so far"
    if come is None and all(each.matured is None for each in lift.kinds):
        yield "rewards may still come: the log is younger than the reward window"
    elif come is None:
        kinds = ", ".join(str(each.kind) for each in lift.kinds if each.matured is None)
        yield f"rewards may still come: nothing tells yet how long they take of {kinds}"


def _more(effect: Effect, decisions: int = 0) -> str:
    """How much longer it takes."""
    if effect.more is None:
        return f", more than {FAR:g} times as many decisions needed"
    return f", about {rounded(effect.more):,} decisions more"


def rounded(n: int) -> int:
    """Two significant digits: nobody knows it better."""
    return round(n, min(0, 2 - len(str(n))))


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
