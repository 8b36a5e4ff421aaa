"""Whether a replay can say what a policy would have earned, and how surely: a row as of any other estimator.

    m  decisions that the policy lived, its matches          n  decisions of the log

Its matches are a log of the policy itself, in which every decision weighs the same; of a doubly robust replay all rows
count, with the probabilities that the policy had by then. The value of a policy that learns moves, and no two lives are
alike: it takes the sequence for values that move. And it is that of a life of m decisions. A longer one earns more, by
how much no log tells: with m < SHARE n it is refused. The sequence held what a life of n decisions earns in .97 or more
of cases with m / n from .33, and in half of them with .1 (docs/decisions/0011).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.logs.log import Log
from simulator.ope.checks.sample_ratio import sample_ratio
from simulator.ope.evaluate import EstimatorRow, evaluate
from simulator.studies.replay import Replay

SHARE = 0.3  # of a log's decisions, from which the life of a policy says something of one as long as the log


def judge(log: Log, done: Replay, **how: Any) -> EstimatorRow:
    """A replay as a row of `evaluate`.

    Args:
        log: what was replayed.
        done: the replay.
        how: as of `evaluate`: alpha, reward_range, cap, drifts, looks; of a policy that learns, only the first three.

    Raises:
        ValueError: the log is empty.
    """
    robust, short = done.q is not None, done.learns and done.matches < SHARE * done.rows
    name = "doubly robust replay" if robust else "replay"
    failures = sample_ratio(log).failures()
    notes = [*([] if robust else failures), *_notes(done, short=short)]
    if not (len(done.evidence) or not len(log)):
        return EstimatorRow(name, None, None, None, 0, 0.0, 0.0, None, 0.0, 0.0, None, "refused", "; ".join(notes))
    if done.learns:
        how |= {"looks": "any", "drifts": True}
    known = {"estimators": ["dr"], "q": done.q} if robust else {"estimators": ["snips"]}
    row = evaluate(done.evidence, done.target, **known, **how)[0]
    row = replace(row, estimator=name, note="; ".join([*notes, *filter(None, [row.note])]))
    return replace(row, verdict="refused", low=None, high=None) if failures or short else row


def _notes(done: Replay, *, short: bool) -> list[str]:
    """How many decisions matched, and how much the chances to match were cut."""
    notes = []
    if done.learns:
        notes.append(f"value over the {done.matches:,} decisions that matched; the log has {done.rows:,}")
    elif not done.matches:
        notes.append("nothing matched")
    if short:
        notes.append(f"fewer than {SHARE:.0%} of them: with more decisions to learn from, it would earn something else")
    if done.cut:
        lacking = f"the policy lacks {done.lacking:.2%} of what it should have learned from"
        notes.append(f"{done.cut:,} rows matched too rarely: {lacking}")
    return notes
