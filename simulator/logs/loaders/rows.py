"""From a format's lines to a table: a first reading learns arms, features and columns, the second makes the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from unicodedata import category, normalize

import numpy as np
import pyarrow as pa

from bandit.core.document import ARMS_MAX
from simulator.logs.cleaning import Rules, faults
from simulator.logs.contexts import Feature, LogError, Survey
from simulator.logs.storage import chunks
from simulator.logs.table import ALWAYS, COLUMNS, PIECE, Header, Row, Table, batch_of

Rows = Callable[[Counter[str]], Iterator[Row]]  # all rows again at each call; counts what it leaves out
BARE = Header(arms=(), columns=(*ALWAYS, "weight"))  # what tells whether a row can be used
FIELDS = [name for name in Row.__struct_fields__ if name in COLUMNS]


def surveyed(
    rows: Rows,
    *,
    arms: Sequence[str] = (),
    features: Sequence[Feature] | None = None,
    learning: bool = False,
    grid: bool = False,
    sparse: bool = False,
) -> Table:
    """A table of rows that are read twice.

    Args:
        rows: reads them.
        arms: ids that come first, in this order; others follow in natural order.
        features: what the contexts consist of, where that is known.
        learning: whether the logging policy learned.
        grid: whether x is on a server's grid.
        sparse: whether a number that is not there is 0.

    Raises:
        LogError: there are more than `ARMS_MAX` arms.
    """
    found = _Found(sparse, features)
    for piece in chunks(rows(Counter()), PIECE):
        found.add(piece)
    learned, cleaning = found.survey.result() if features is None else (tuple(features), {})
    header = Header(
        arms=ordered(arms, found.arms),
        columns=found.columns(bool(learned) or features is not None),
        features=learned,
        grid=grid,
        probability="every" if found.every and "eligible" in found.present else "shown",
        learning=learning,
        sparse=sparse,
    )
    counts = Counter(cleaning) + lost(found.arms, found.dropped)
    return Table(header, batches(header, rows(counts)), counts)


def batches(header: Header, rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Rows as record batches of the header's columns."""
    for piece in chunks(rows, PIECE):
        yield batch_of(header, piece)


class _Found:
    """What a first reading has seen."""

    def __init__(self, sparse: bool, features: Sequence[Feature] | None) -> None:
        self.survey = Survey(sparse=sparse)
        self.given = features is not None
        self.arms: dict[str, None] = {}
        self.dropped: dict[str, None] = {}  # arms of rows that cannot be used
        self.present: set[str] = set(ALWAYS)
        self.every = True  # row so far has a probability for each eligible arm

    def add(self, rows: Sequence[Row]) -> None:
        """Learn from some rows."""
        if not self.given:
            self.survey.add_rows(row.context for row in rows)
        for name in FIELDS:
            if name not in self.present and any(getattr(row, name) is not None for row in rows):
                self.present.add(name)
        for row, kept in zip(rows, _usable(rows), strict=True):
            self._add(row, kept)
        if len(self.arms) > ARMS_MAX:
            raise LogError(f"expected at most {ARMS_MAX} arms, got more: {list(self.arms)[-3:]} among them")

    def _add(self, row: Row, kept: bool) -> None:
        arms = self.arms if kept else self.dropped
        arms.update((each.arm, None) for each in row.shown)
        if row.eligible is None:
            self.every = self.every and bool(row.skipped)
            return
        arms.update((each.arm, None) for each in row.eligible)
        self.every = self.every and all(each.probability is not None for each in row.eligible)

    def columns(self, context: bool) -> tuple[str, ...]:
        """The columns that there are, in the order of a row's fields."""
        there = self.present | ({"context"} if context else set())
        return tuple(name for name in Row.__struct_fields__ if name in there)


def _usable(rows: Sequence[Row]) -> list[bool]:
    """Which rows cleaning keeps, as far as arm, reward, propensity and weight say; or that were never shown."""
    batch = batch_of(BARE, rows)
    good = np.ones(len(rows), bool)
    for fault in faults(BARE, batch, Rules()):
        good &= ~fault.bad
    return [bool(kept or row.skipped) for kept, row in zip(good.tolist(), rows, strict=True)]


def lost(kept: Container[str], dropped: Iterable[str]) -> Counter[str]:
    """What is said of arms that are only in rows that are dropped."""
    arms = [arm for arm in dropped if arm not in kept]
    what = f"arms left out, shown only in rows that are dropped: {str(arms[:10])[1:-1]}"
    return Counter({what: len(arms)} if arms else {})


def alike(arms: Iterable[str]) -> Counter[str]:
    """What is said of arms whose names look alike."""
    groups: dict[str, list[str]] = {}
    for arm in arms:
        bare = "".join(letter for letter in normalize("NFKC", arm) if category(letter) != "Cf")  # no breadth
        groups.setdefault(" ".join(bare.casefold().split()), []).append(arm)
    same = [names for names in groups.values() if len(names) > 1]
    told = ", ".join(" and ".join(map(_written, names)) for names in same[:5])
    what = f"arms whose names differ only in case, blanks or how a letter is put together: {told}"
    return Counter({what: sum(map(len, same))} if same else {})


def _written(name: str) -> str:
    """A name with what cannot be seen of it."""
    return repr(name) if normalize("NFC", name) == name == normalize("NFKC", name) else ascii(name)


def ordered(first: Sequence[str], found: Iterable[str]) -> tuple[str, ...]:
    """The arms, each once: those given, then the others, numbers by their size and before names."""
    given = dict.fromkeys(first)
    return (*given, *sorted(dict.fromkeys(arm for arm in found if arm not in given), key=_natural))


def _natural(arm: str) -> tuple[bool, int, str]:
    digits = arm.isascii() and arm.isdigit()
    return not digits, int(arm) if digits else 0, arm
