"""Where a log is refused for its propensities: what they probably are instead, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulator.logs.log import Log
from simulator.ope.checks.sample_ratio import sample_ratio

MOST = 6  # decimals that a propensity is rounded to
LOST = "some of its rows may be lost"  # ends what the sample-ratio check says of an arm


def likely(log: Log) -> list[str]:
    """What a refusal of the log probably comes from, and what to do; empty where nothing is known."""
    return [*_rounded(log), *_conditional(log)]


def explained(note: str, reasons: list[str]) -> str:
    """A note with the reasons for a refusal before it, and without a guess that they replace."""
    kept = [each for each in note.split("; ") if each and not (reasons and each.endswith(LOST))]
    return "; ".join([*reasons, *kept])


def _conditional(log: Log) -> Iterator[str]:
    """Lists: first positions are sound, the others have too little 1 / p, as if propensities were conditional."""
    if log.position is None or log.conditional is not None:
        return
    first, others = (log.take(rows) for rows in (log.position == 0, log.position > 0))
    if not len(first) or not len(others) or sample_ratio(first).failures():
        return
    off = [each for each in sample_ratio(others).flagged if each.arm is None]
    if off and off[0].observed < off[0].expected:
        ids = "" if log.decision_id is not None else ", with the id of each list (--decision-id)"
        yield (
            "the propensities look conditional on the arms above, but to value each position by itself takes marginal "
            f"probabilities: `evaluate --lists` values whole lists by conditional propensities{ids}"
        )


def _rounded(log: Log) -> Iterator[str]:
    """One propensity for all, that is 1 / K but for its rounding."""
    p = float(log.propensity[0]) if len(log) else 0.0
    if not len(log) or np.ptp(log.propensity) > 0 or log.K < 2 or p == 1 / log.K:
        return
    if any(p == round(1 / log.K, decimals) for decimals in range(1, MOST + 1)):
        whole = f"{1 / log.K:.12g}"
        yield f"a propensity of {p:g} for {log.K} arms looks like 1/{log.K} rounded: give all its digits, {whole}"
