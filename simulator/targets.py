"""Target policies: what a log is evaluated for, as probabilities of every arm in every row.

uniform       evenly over the arms that were eligible
fixed:ARM     always this arm
FILE.csv      columns arm, probability and optionally position: a policy that sees no context
FILE.json     an experiment's document: its policy, having learned from the log's rows before each row
linucb:...    any other policy that `simulator.specs` knows, likewise

A policy that goes on learning from the log profits from the exploration of the one that was logged: it is credited with
what it would not have learned alone. So it is usually `frozen`: as learned from a first part, valued on the rest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from bandit.errors import nearest
from bandit.linear import Matrix
from simulator import specs
from simulator.contexts import LogError
from simulator.learners.logs import eligible_of, grid_of, task_of
from simulator.learners.logs import frozen as frozen_on
from simulator.learners.protocol import Outcomes
from simulator.loaders.csv_blocks import Blocks
from simulator.loaders.csv_text import form_of
from simulator.logged import Log

Target = Callable[[Log], Matrix]  # pi(a|x) of a piece's rows, (n, K); called with a log's pieces in order
MakeTarget = Callable[[Log, tuple[float, float]], Target]  # from the first piece and the range of rewards
REFRESH = 100  # rows between two refreshes of a policy that learns from the log


def target(log: Log, text: str, *, refresh: int = REFRESH, seed: int = 0) -> Matrix:
    """pi(a|x) of every row and arm, shape (n, K), of the policy that `text` names.

    Raises:
        LogError: the name, the arm or the file is not what it should be.
    """
    if text == "uniform":
        return uniform(log)
    if text.startswith("fixed:"):
        return fixed(log, text.removeprefix("fixed:"))
    if text.removesuffix(".gz").endswith(".csv"):
        return from_file(log, Path(text))
    return Learned(log, text, refresh=refresh, seed=seed)(log)


def of_pieces(text: str, *, refresh: int = REFRESH, seed: int = 0) -> MakeTarget:
    """The same for a log in pieces; see `simulator.streaming`."""
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
    kind = text.partition(":")[0]
    return kind != "uniform" and (kind in specs.KINDS or kind.endswith(".json"))


def uniform(log: Log) -> Matrix:
    """Evenly over the arms that could have been shown."""
    mask = eligible_of(log, slice(None))
    P: Matrix = np.broadcast_to(mask / mask.sum(axis=1, keepdims=True), (len(log), log.K)).copy()
    return P


def fixed(log: Log, arm: str) -> Matrix:
    """Always this arm."""
    P = np.zeros((len(log), log.K))
    P[:, index_of(log, arm)] = 1.0
    return P


def index_of(log: Log, arm: str, where: str = "") -> int:
    """The index of an arm.

    Raises:
        LogError: the log has none of this name; `where` stands before what is said.
    """
    if arm not in log.arms:
        raise LogError(f"{where}the log has no arm {arm!r}{nearest(arm, log.arms)}")
    return log.arms.index(arm)


def from_file(log: Log, path: Path) -> Matrix:
    """The probabilities that a CSV gives each arm, or each arm at each position (counted from the file's lowest)."""
    form = form_of(path)
    text = b"".join(Blocks(path, form, None)).decode("utf-8", "replace")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=form.separator))[1:]
    if not rows or not {"arm", "probability"} <= set(form.names):
        got = form.names if rows else "no rows"
        raise LogError(f"{path.name}: expected columns arm and probability, got {got}")
    found: dict[tuple[int, int], float] = {}
    for number, row in enumerate(rows, form.above + 2):
        if row:
            where, cells = f"{path.name}, line {number}", dict(zip(form.names, row, strict=False))
            place, arm, probability = _line(log, where, cells, form.decimal)
            if (place, arm) in found:
                raise LogError(f"{where}: expected each arm once, got {log.arms[arm]!r} again")
            found[place, arm] = probability
    places = sorted({place for place, _ in found})
    table = np.zeros((len(places), log.K))
    for (place, arm), probability in found.items():
        table[places.index(place), arm] = probability
    if len(places) == 1:
        return np.repeat(table, len(log), axis=0)
    if log.position is None or log.position.max() >= len(places):
        raise LogError(f"{path.name} has positions {places}; the log has {_places(log)}")
    P: Matrix = table[log.position]
    return P


def _line(log: Log, where: str, row: Mapping[str, str], decimal: str) -> tuple[int, int, float]:
    """(position, arm's index, probability) of a line."""
    arm = index_of(log, row["arm"], f"{where}: ")
    place, probability = row.get("position") or "0", row.get("probability", "")
    try:
        return int(place), arm, float(probability.replace(decimal, "."))
    except ValueError:
        got = f"{probability!r}" if place.isdigit() else f"position {place!r}"
        raise LogError(f"{where}: expected a number as probability and a whole one as position, got {got}") from None


def _places(log: Log) -> str:
    return "none" if log.position is None else f"{int(log.position.max()) + 1} of them"


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
