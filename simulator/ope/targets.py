"""Targets that do not learn: probabilities of every arm in every row of a log."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bandit.arrays import Matrix
from bandit.errors import nearest
from simulator.logs.contexts import LogError
from simulator.logs.loaders.csv_blocks import Blocks
from simulator.logs.loaders.csv_text import form_of
from simulator.logs.log import Log, eligible_of

Target = Callable[[Log], Matrix]  # pi(a|x) of a piece's rows, (n, K); called with a log's pieces in order
MakeTarget = Callable[[Log, tuple[float, float]], Target]  # from the first piece and the range of rewards


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
