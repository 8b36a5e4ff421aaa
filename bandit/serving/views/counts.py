"""Series and summaries: rows of the series as they are answered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec import UNSET

from bandit.core.document import Kind
from bandit.core.experiment import Experiment
from bandit.core.times import time_of
from bandit.replica.replica import Replica
from bandit.replica.series import KEPT, MS, Bucket, Credited, Part, Resolution, add_credits, first_kept, place
from bandit.replica.series_reader import Rows, SeriesReader
from bandit.serving.evaluation import time_ms
from bandit.serving.views.answers import (
    KindCount,
    Point,
    SeriesAnswer,
    SlicePoint,
    SliceWindow,
    SummaryAnswer,
    WindowCounts,
)
from bandit.store.protocol import Store

EARLIER = "(earlier)"  # kinds of a generation that had ended before it was counted
LEAST = 10.0  # seconds that a rate is of
WINDOWS: dict[str, tuple[Resolution, int]] = {"5m": ("minute", 5), "1h": ("minute", 60), "1d": ("hour", 24)}
Outcomes = Mapping[int, Mapping[str, int]]
Weights = Mapping[str, float]  # of the kinds of reward, in force now


def series(
    store: Store, reader: SeriesReader, replica: Replica, resolution: Resolution, since: str, until: str
) -> SeriesAnswer:
    """What was counted from one time until another.

    Raises:
        Problem: `invalid_request`, where one of them is no time.
    """
    now, width = store.now_ms(), MS[resolution]
    newest = max(now, replica.position.ms)
    first, last = first_kept(resolution, newest), place(resolution, newest)
    since_ms, until_ms = time_ms("since", since, now), time_ms("until", until, now)
    start = first if since_ms is None else max(first, place(resolution, since_ms))
    end = last if until_ms is None else min(last, place(resolution, until_ms))
    rows = reader.read(replica, resolution, range(start, end + 1))
    outcomes = store.outcomes(replica.name, start * width, end * width, width) if start <= end else {}
    weights, numbers = _weights(replica.served.experiment), {at // width for at in outcomes}
    points = [
        _point(number * width, rows.buckets.get(number, ()), outcomes.get(number * width, {}), weights)
        for number in sorted(rows.buckets.keys() | numbers)
        if start <= number <= end
    ]
    position = rows.position.text().decode()
    return SeriesAnswer(replica.name, resolution, position, rows.complete, time_of(now), points)


def summary(store: Store, reader: SeriesReader, replica: Replica, *, whole: bool) -> SummaryAnswer:
    """How an experiment is doing; `whole` looks at all 90 days."""
    now, experiment = store.now_ms(), replica.served.experiment
    newest = max(now, replica.position.ms)
    minutes, hours = place("minute", newest), place("hour", newest)
    back = KEPT["hour"] - 1 if whole else WINDOWS["1d"][1]
    over = newest - experiment.window_ms  # the reward windows of decisions before this have ended
    minutely = {*range(minutes - WINDOWS["1h"][1], minutes + 1), *(_minutes(over, minutes) if whole else ())}
    rows = reader.read_several(replica, {"minute": sorted(minutely), "hour": range(hours - back, hours + 1)})
    outcomes: dict[Resolution, Outcomes] = {
        each: store.outcomes(replica.name, newest - most * MS[each], newest, MS[each])
        for each, most in (WINDOWS["1h"], WINDOWS["1d"])
    }
    weights = _weights(experiment)
    day = [(n, b) for n, own in rows["hour"].buckets.items() if n >= hours - WINDOWS["1d"][1] for b in own]
    began = min((bucket.began_ms or n * MS["hour"] for n, bucket in day if bucket.decisions), default=0)
    windows = {
        name: _window(rows[each], outcomes[each], place(each, newest) - most, MS[each], (began, newest), weights)
        for name, (each, most) in WINDOWS.items()
    }
    decided, rewarded = (
        max(times, default=0) for times in ([b.decided_ms for _, b in day], [b.rewarded_ms for _, b in day])
    )
    model, position = replica.served, rows["hour"].position
    return SummaryAnswer(
        experiment=replica.name,
        version=experiment.config.version,
        generation=experiment.config.generation,
        arms=experiment.active_count,
        now=time_of(now),
        position=position.text().decode(),
        complete=rows["hour"].complete,
        windows=windows,
        newest_decision=time_of(decided) if decided else None,
        newest_reward=time_of(rewarded) if rewarded else None,
        lag_ms=round((time.monotonic() - replica.read_at) * 1000) if replica.read_at else None,
        waiting_arms=len(model.waiting),
        matured_share=_matured(rows, over) if whole else UNSET,
    )


def _point(at_ms: int, buckets: Sequence[Bucket], outcomes: Mapping[str, int], weights: Weights) -> Point:
    """One minute or hour, its generations together."""
    if len(buckets) == 1:
        return _of_one(at_ms, buckets[0], outcomes, weights)
    arms: dict[str, int] = {}
    for bucket in buckets:
        for arm, count in bucket.arms.items():
            arms[arm] = arms.get(arm, 0) + count
    impressions = sum(bucket.impressions for bucket in buckets)
    slices = {}
    for name, parts in _parts(buckets).items():
        own = _earned([(bucket.steps, part.earned) for bucket, part in parts], weights)
        slices[name] = SlicePoint(sum(part.decisions for _, part in parts), *own)
    earned, reward = _earned([(bucket.steps, bucket.earned) for bucket in buckets], weights)
    return Point(
        at=time_of(at_ms),
        decisions=sum(bucket.decisions for bucket in buckets),
        impressions=impressions,
        deferred=sum(bucket.deferred for bucket in buckets),
        activated=sum(bucket.activated for bucket in buckets),
        explored=sum(bucket.explored for bucket in buckets),
        even=sum(bucket.even for bucket in buckets),
        arms=arms,
        other_arms=impressions - sum(arms.values()),
        feedback=_earned([(bucket.steps, bucket.came) for bucket in buckets], weights)[0],
        earned=earned,
        reward=reward,
        slices=slices,
        outcomes=dict(outcomes),
    )


def _of_one(at_ms: int, bucket: Bucket, outcomes: Mapping[str, int], weights: Weights) -> Point:
    """The same of a single generation, as nearly all are, in a third of the time."""
    earned, reward = _credits(bucket.steps, bucket.earned, weights)
    slices = {
        name: SlicePoint(part.decisions, *_credits(bucket.steps, part.earned, weights))
        for name, part in bucket.slices.items()
    }
    return Point(
        time_of(at_ms),
        bucket.decisions,
        bucket.impressions,
        bucket.deferred,
        bucket.activated,
        bucket.explored,
        bucket.even,
        bucket.arms,
        bucket.impressions - sum(bucket.arms.values()),
        _credits(bucket.steps, bucket.came, weights)[0],
        earned,
        reward,
        slices,
        dict(outcomes),
    )


def _credits(
    steps: Mapping[str, float], credited: Mapping[str, Credited], weights: Weights
) -> tuple[dict[str, KindCount], float]:
    """(what was credited of each kind, all of it by the weights in force now), of one generation."""
    found, reward = {}, 0.0
    for kind, own in credited.items():
        value = _unit(steps[kind]).value(own.credits) if kind in steps else 0.0
        found[kind or EARLIER] = KindCount(own.count, value)
        reward += weights.get(kind, 0.0) * value
    return found, reward


@lru_cache(maxsize=256)
def _unit(step: float) -> Kind:
    """A kind of reward with this unit."""
    return Kind(unit=step)


def _parts(buckets: Iterable[Bucket]) -> dict[str, list[tuple[Bucket, Part]]]:
    """The parts of each slice, with the buckets that they are of."""
    found: dict[str, list[tuple[Bucket, Part]]] = {}
    for bucket in buckets:
        for name, part in bucket.slices.items():
            found.setdefault(name, []).append((bucket, part))
    return found


def _earned(
    parts: Iterable[tuple[Mapping[str, float], Mapping[str, Credited]]], weights: Weights
) -> tuple[dict[str, KindCount], float]:
    """The same of several buckets; credits of one unit are added as whole numbers first."""
    totals: dict[float, tuple[dict[str, float], dict[str, Credited]]] = {}
    for steps, credited in parts:
        for kind, own in credited.items():
            step = steps.get(kind, 0.0)
            _, to = totals.setdefault(step, ({}, {}))
            totals[step][0].update({kind: step} if step else {})
            add_credits(to, {kind: own})
    found: dict[str, KindCount] = {}
    reward = 0.0
    for steps, credited in totals.values():
        own_found, own_reward = _credits(steps, credited, weights)
        reward += own_reward
        for kind, count in own_found.items():
            before = found.get(kind, KindCount(0, 0.0))
            found[kind] = KindCount(before.count + count.count, before.sum + count.sum)
    return found, reward


def _weights(experiment: Experiment) -> Weights:
    return {kind: spec.weight for kind, spec in experiment.document.rewards.items()}


def _window(
    rows: Rows, outcomes: Outcomes, first: int, width: int, span: tuple[int, int], weights: Weights
) -> WindowCounts:
    """What was counted from one bucket on; `span`: (when decisions began within the day, now)."""
    buckets = [bucket for number, own in rows.buckets.items() if number >= first for bucket in own]
    point = _point(0, buckets, {}, weights)
    failed: dict[str, int] = {}
    for at, counts in outcomes.items():
        for status, count in counts.items() if at >= first * width else ():
            failed[status] = failed.get(status, 0) + count
    came = sum(own.count for own in point.feedback.values()) + point.activated + sum(failed.values())
    late, again = failed.pop("late", 0), failed.pop("duplicate", 0)
    seconds = max(LEAST, (span[1] - max(first * width, span[0])) / 1000)
    return WindowCounts(
        seconds=round(seconds),
        decisions=point.decisions,
        per_second=point.decisions / seconds,
        impressions=point.impressions,
        explore_share=_share(point.explored, point.decisions),
        even_share=_share(point.even, point.decisions),
        feedback=came,
        late_share=_share(late, came),
        duplicate_share=_share(again, came),
        refused_share=_share(sum(failed.values()), came),
        reward=point.reward,
        reward_per_decision=_share(point.reward, point.decisions),
        slices={
            name: SliceWindow(own.decisions, own.decisions / max(1, point.decisions), _share(own.reward, own.decisions))
            for name, own in point.slices.items()
        },
    )


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _minutes(over: int, newest: int) -> range:
    """The minutes of a time's hour that had ended by then, where they are kept still."""
    return range(max(place("hour", over) * 60, newest - KEPT["minute"] + 1), place("minute", over))


def _matured(rows: Mapping[Resolution, Rows], over: int) -> float | None:
    """The share of decisions in hours that had ended by then, and in the minutes since."""
    hours, begin = rows["hour"].buckets, place("hour", over)
    ended = [own for number, own in hours.items() if number < begin]
    ended += [own for n, own in rows["minute"].buckets.items() if begin * 60 <= n < place("minute", over)]
    return _share(_decisions(ended), _decisions(hours.values()))


def _decisions(rows: Iterable[Sequence[Bucket]]) -> int:
    return sum(bucket.decisions for own in rows for bucket in own)
