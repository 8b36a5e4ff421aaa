"""What values a column of a sample has: numbers, truth, times, lists of numbers, or texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np

from bandit.arrays import Int, Vector
from bandit.core.inferred.amounts import PLAIN, amount
from bandit.core.inferred.table import Table
from bandit.core.inferred.words import MISSING, NO, YES, like_times, words_of

Kind = Literal["empty", "boolean", "number", "time", "vector", "text"]
MOST = 0.95  # of the values must be of a kind
TRUTH = {"true": 1.0, "false": 0.0}
DATE = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}([T ].*)?|\d{1,2}([-/.])\d{1,2}\3\d{4}([T ,].*)?", re.ASCII)
EPOCH = 9e8, 4e18  # of a time since 1970 in seconds, or in nanoseconds: 1998 and later
LISTED: msgspec.json.Decoder[list[float]] = msgspec.json.Decoder(list[float])


@dataclass(frozen=True)
class Column:
    """A column of a sample.

    Attributes:
        name: its name.
        cells: its texts, one a row; an empty one has no value.
        decimal: the mark before a fraction, where its own numbers do not tell.
    """

    name: str
    cells: tuple[str, ...]
    decimal: str = "."

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of its name, in small letters."""
        return frozenset(words_of(self.name))

    @cached_property
    def texts(self) -> Counter[str]:
        """Each text but the empty one, with how often it is there."""
        found = Counter(self.cells)
        found.pop("", None)
        return found

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Its texts that are numbers or truth, with that mark before a fraction by which more of them are."""
        found = self._numbers(self.decimal)
        if len(found) == len(self.texts):
            return found
        other = self._numbers("." if self.decimal == "," else ",")
        return other if self._rows(other) > self._rows(found) else found

    def _numbers(self, decimal: str) -> dict[str, float]:
        pairs = ((text, TRUTH.get(text.lower(), amount(text, decimal))) for text in self.texts)
        return {text: value for text, value in pairs if value is not None}

    def _rows(self, texts: Iterable[str]) -> int:
        return sum(self.texts[text] for text in texts)

    @cached_property
    def result(self) -> Column:
        """The column as one of rewards: where it says yes and no, with 1 and 0 in their place."""
        told = {text: text.lower() for text in self.texts if text not in MISSING}
        if self.kind != "text" or not set(told.values()) <= YES | NO:
            return self
        truth = {text: str(int(word in YES)) for text, word in told.items()}
        return replace(self, cells=tuple(truth.get(cell, "") for cell in self.cells))

    @property
    def unplain(self) -> str:
        """A number of it that is not written as programs write one, such as 1.234,50 €; empty where there is none."""
        return next((text for text in self.numbers if text.lower() not in TRUTH and not PLAIN.fullmatch(text)), "")

    @cached_property
    def kind(self) -> Kind:
        """What nearly all of its values are."""
        told = {text: count for text, count in self.texts.items() if text not in MISSING}
        total = sum(told.values())
        if not total:
            return "empty"
        share = self._rows(self.numbers) / total
        if share == 1.0 and set(self.numbers.values()) <= {0.0, 1.0}:
            return "boolean"
        if share >= MOST:
            return "time" if like_times([self.name]) and self._since_1970() else "number"
        if sum(count for text, count in told.items() if DATE.fullmatch(text)) >= MOST * total:
            return "time"
        return "vector" if self.length else "text"

    def _since_1970(self) -> bool:
        return all(EPOCH[0] <= value <= EPOCH[1] for value in self.numbers.values())

    @cached_property
    def length(self) -> int:
        """Of a column of lists of numbers, how many each has; else 0."""
        sizes: set[int] = set()
        for text in self.texts:
            if text[:1] != "[" or len(sizes) > 1:
                return 0
            try:
                sizes.add(len(LISTED.decode(text)))
            except (msgspec.DecodeError, UnicodeEncodeError):
                return 0
        return sizes.pop() if len(sizes) == 1 else 0

    @cached_property
    def values(self) -> Vector:
        """A number for each row; NaN where there is none."""
        return np.array([self.numbers.get(cell, np.nan) for cell in self.cells], np.float64)

    @cached_property
    def places(self) -> Int:
        """For each row the place of its text among those that there are."""
        places = {text: place for place, text in enumerate(dict.fromkeys(self.cells))}
        return np.array([places[cell] for cell in self.cells], np.int64)

    @property
    def missing(self) -> int:
        """How many rows have no value of its kind."""
        if self.kind in ("boolean", "number"):
            return len(self.cells) - self._rows(self.numbers)
        if self.kind == "time":
            return sum(cell in MISSING for cell in self.cells)
        return len(self.cells) - self.texts.total()

    @property
    def strange(self) -> int:
        """How many rows have a text that is no number, and none that stands for nothing."""
        return self._rows(text for text in self.texts if text not in self.numbers and text not in MISSING)

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(set(self.numbers.values())) if self.kind in ("boolean", "number") else len(self.texts)

    @property
    def mostly_different(self) -> bool:
        """Whether nearly every row has a value of its own."""
        there = len(self.cells) - self.missing
        return there >= 20 and self.distinct > 0.9 * there

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.kind == "number" and all(value.is_integer() for value in self.numbers.values())


def columns_of(table: Table) -> tuple[Column, ...]:
    """The columns of a table."""
    pairs = zip(table.names, table.columns, strict=True)
    return tuple(Column(name, cells, table.decimal) for name, cells in pairs)
