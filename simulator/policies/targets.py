"""Target policies: what a log is evaluated for, as probabilities of every arm in every row.

uniform       evenly over the arms that were eligible
fixed:ARM     always this arm
FILE.csv      columns arm, probability and optionally position: a policy that sees no context
FILE.json     an experiment's document: its policy, having learned from the log's rows before each row
linucb:...    any other policy that `simulator.policies.specs` knows, likewise

A policy that goes on learning from the log profits from the exploration of the one that was logged: it is credited with
what it would not have learned alone. So it is usually `frozen`: as learned from a first part, valued on the rest.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from bandit.arrays import Matrix
from simulator.logs.log import Log, eligible_of
from simulator.ope.targets import MakeTarget, fixed, from_file, uniform
from simulator.policies import specs
from simulator.policies.on_log import frozen as frozen_on
from simulator.policies.on_log import grid_of, task_of
from simulator.policies.protocol import Outcomes
from simulator.wording import named

REFRESH = 100  # rows between two refreshes of a policy that learns from the log


def target(log: Log, text: str, *, refresh: int = REFRESH, seed: int = 0) -> Matrix:
    """pi(a|x) of every row and arm, shape (n, K), of the policy that `text` names.

    Raises:
        LogError: the name, the arm or the file is not what it should be.
    """
    wanted = named(text)
    match wanted.kind:
        case "uniform":
            return uniform(log)
        case "fixed":
            return fixed(log, wanted.rest)
        case "csv":
            return from_file(log, Path(text))
    return Learned(log, text, refresh=refresh, seed=seed)(log)


def of_pieces(text: str, *, refresh: int = REFRESH, seed: int = 0) -> MakeTarget:
    """The same for a log in pieces; see `simulator.ope.stream`."""
    if learns(text):
        return lambda first, span: Learned(first, text, refresh=refresh, seed=seed, span=span)
    return lambda first, span: lambda piece: target(piece, text)


def frozen(log: Log, text: str | specs.Spec, rows: int, *, refresh: int = REFRESH, seed: int = 0) -> Matrix:
    """pi(a|x) of the rows after the first ones, shape (n - rows, K), of a policy that has learned from those alone.

    Args:
        log: n rows, in the order in which they were logged.
        text: names the policy.
        rows: how many it learns from.
        refresh: rows between two refreshes while it learns, where the policy has no interval of its own.
        seed: of whatever randomness is inside it.

    Raises:
        LogError: the name or the file is not what it should be.
    """
    first = log.take(slice(rows))
    learned = Learned(first, text, refresh=refresh, seed=seed)  # in the range of rewards that it has met
    learned(first)
    return learned.frozen(log.take(slice(rows, None)))


def learns(text: str) -> bool:
    """Whether the target that `text` names learns."""
    wanted = named(text)
    return wanted.kind == "document" or (wanted.kind == "policy" and wanted.name in specs.KINDS)


class Learned:
    """The probabilities of a policy that learns from a log's rows as they came, each from the rows before it.

    Called with the pieces of a log in order, it gives what it would give for the whole.

    Args:
        log: the log, or its first piece.
        text: names the policy.
        refresh: rows between two refreshes, where the policy has no interval of its own.
        seed: of whatever randomness is inside it.
        span: the range of rewards; None: that of `log`.
    """

    def __init__(
        self,
        log: Log,
        text: str | specs.Spec,
        *,
        refresh: int = REFRESH,
        seed: int = 0,
        span: tuple[float, float] | None = None,
    ) -> None:
        spec = specs.parse(text) if isinstance(text, str) else text
        if spec.kind == "document":  # its policy and settings count; features are the log's columns
            spec = msgspec.structs.replace(spec, options={**spec.options, "features": []})
        self.learner = specs.build(spec, task_of(log, seed, span))
        self.refresh, self.seen = spec.refresh or refresh, 0

    def __call__(self, log: Log) -> Matrix:
        """pi(a|x) of the next rows, shape (n, K)."""
        P, start = np.zeros((len(log), log.K)), 0
        while start < len(log):
            rows = slice(start, min(len(log), start + self.refresh - self.seen % self.refresh))
            x, allowed = grid_of(log, rows), eligible_of(log, rows)
            P[rows] = self.learner.probabilities(x, allowed)
            seen = Outcomes(x, log.arm[rows], log.reward[rows], log.propensity[rows], allowed)
            self.learner.learn(seen, told=False)
            self.seen, start = self.seen + rows.stop - start, rows.stop
            if self.seen % self.refresh == 0:
                self.learner.refresh()
        return P

    def frozen(self, log: Log) -> Matrix:
        """pi(a|x) of rows from which it does not learn, shape (n, K)."""
        self.learner.refresh()
        return frozen_on(self.learner, log)
