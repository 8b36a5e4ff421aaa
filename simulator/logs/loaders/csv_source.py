"""A CSV file whose columns have roles: its blocks, typed, and what is wrong with a value, in words that say where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from bandit.core.inferred.words import MISSING, after_the_fact, like_users
from bandit.errors import nearest
from simulator.logs.contexts import LogError
from simulator.logs.loaders.csv_blocks import BLOCK, Blocks, fault, parsed
from simulator.logs.loaders.csv_numbers import OTHER, all_grouped, grouped, ungrouped
from simulator.logs.loaders.csv_roles import Roles
from simulator.logs.loaders.csv_text import COMMA, Form, form_of

WIDER = {"null": pa.float64(), "int64": pa.float64(), "bool": pa.string(), "double": pa.string()}
FAULT = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?(.*)", re.DOTALL)


@dataclass
class Source:
    """A file with the types of its columns, as far as they are known."""

    path: Path
    roles: Roles
    known_texts: set[str] = field(default_factory=set)
    types: dict[str, pa.DataType] = field(default_factory=dict)
    grouped: dict[str, bool] = field(default_factory=dict)  # columns, whether they are numbers with marks of thousands

    @cached_property
    def form(self) -> Form:
        """How the file is written."""
        return form_of(self.path, self.roles.delimiter, self.roles.decimal)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The blocks of the file, columns that are not needed left out.

        Raises:
            LogError: a value is not of its column's type, or a row has too few or too many; says where.
        """
        self.blocks = Blocks(self.path, self.form, BLOCK)
        names = self.names()
        wanted = [name for name in names if name and (name in self.roles.types() or name in self.context(names))]
        for data in self.blocks:
            try:
                batch = self._batch(data, wanted)
            except pa.ArrowInvalid as error:
                raise self._fault(str(error), names) from None
            if len(batch):
                yield batch
            self.blocks.rows += len(batch) + self.blocks.names

    def _batch(self, data: bytes, wanted: Sequence[str]) -> pa.RecordBatch:
        """The wanted columns of a block; of texts only an empty one is missing."""
        types = self.roles.types() | self.types
        groups = [name for name in wanted if self.grouped.get(name)]
        texts = [name for name in wanted if types.get(name) == pa.string() and name not in groups]
        numbers = [name for name in wanted if name not in texts and name not in groups]
        found: dict[str, pa.Array] = {}
        for names, missing in ((texts, ("",)), (numbers, MISSING)):
            if names:
                known = {name: types[name] for name in names if name in types}
                batch = self._parsed(data, names, known, missing)
                found |= dict(zip(names, batch.columns, strict=True))
        found |= {name: self._ungrouped(name, each) for name, each in self.texts(data, groups).items()}
        return pa.record_batch([found[name] for name in wanted], names=list(wanted))

    def _parsed(
        self, data: bytes, names: Sequence[str], types: Mapping[str, pa.DataType], missing: Sequence[str]
    ) -> pa.RecordBatch:
        return parsed(data, self.form, self.blocks.names, columns=names, types=types, missing=missing)

    def texts(self, data: bytes, names: Sequence[str]) -> dict[str, pa.Array]:
        """Columns of numbers of a block as texts."""
        if not names:
            return {}
        batch = self._parsed(data, names, dict.fromkeys(names, pa.string()), MISSING)
        return dict(zip(names, batch.columns, strict=True))

    def _ungrouped(self, name: str, texts: pa.Array) -> pa.Array:
        """Numbers without their marks of thousands; a context column that has other texts too is widened."""
        numbers, wrong = ungrouped(texts, self.form.decimal)
        if wrong is None:
            return numbers
        got = texts[wrong].as_py()
        error = f"{self.path.name}, column {name!r}, {self.at(wrong)}: expected a number, got {got!r}"
        if name in self.roles.types():
            raise LogError(f"{error}{self._hint('double', got)}")
        self.types[name], self.grouped[name] = pa.string(), False
        raise WidenedError(error)

    def at(self, row: int) -> str:
        """Where a row of the block that is read stands, counted from 0: in words."""
        return self.blocks.at(row + 1 + self.blocks.names)

    def _fault(self, message: str, names: Sequence[str]) -> LogError:
        """Arrow's words with the column's name; a context column's type is widened for the next try."""
        if not (found := FAULT.match(message)):
            return LogError(f"{self.path.name}{fault(message, self.blocks)}")
        kind, got = _kind_and_value(found[3])
        name, row = names[int(found[1])], f", {self.blocks.at(int(found[2]))}" if found[2] else ""
        error = LogError(f"{self.path.name}, column {name!r}{row}: {found[3]}{self._hint(kind, got)}")
        if name in self.roles.rewards and got.lower() in ("true", "false"):
            self.types[name] = pa.bool_()
            return WidenedError(str(error))
        if kind == "double" and self.roles.decimal and re.match(grouped(self.form.decimal), got):
            self.grouped.setdefault(name, True)
            return WidenedError(str(error))
        if name in self.roles.types() or not kind or kind == "string":
            return error
        self.types[name] = WIDER.get(kind, pa.string())
        return WidenedError(str(error))

    def _hint(self, kind: str | None, got: str) -> str:
        """What a value should have been, and which option reads it."""
        if kind == "string":
            return ": expected text in UTF-8"
        if kind != "double":
            return ""
        mark, other = self.form.decimal, ""
        if self.roles.decimal is None and re.match(grouped(mark), got):
            other = f" (or say --decimal {mark} if {OTHER[mark]} is a mark of thousands)"
        if self.roles.decimal is None and mark == "." and COMMA.fullmatch(got):
            other = other.removesuffix(")") + ", or --decimal , if not)" if other else " (or say --decimal ,)"
        return f"; expected a number such as 1234{mark}5{other}"

    def find_groups(self, name: str, texts: pa.Array) -> None:
        """Whether texts of the context are numbers with marks of thousands, where the decimal mark is said."""
        if self.roles.decimal and name not in self.grouped and texts.type == pa.string():
            self.grouped[name] = all_grouped(texts, self.form.decimal)

    def names(self) -> list[str]:
        """The names of all columns.

        Raises:
            LogError: there are none, or one with a role is missing.
        """
        found = self.form.names
        for name in [*self.roles.types(), *(self.roles.context or ())]:
            if name not in found:
                what = f"expected a column {name!r}, got {found[:20]}{nearest(name, found)}"
                raise LogError(f"{self.path.name}: {what}")
        return found

    def context(self, names: Sequence[str]) -> list[str]:
        """The columns of the context."""
        if self.roles.context is not None:
            return list(self.roles.context)
        rest = [name for name in names if name and name not in self.roles.types()]
        known = self.roles.known
        later = after_the_fact(rest) if known is None else [name for name in rest if name not in known]
        whose = [name for name in like_users(rest) if known is None and name not in later]
        if not later and not whose:
            return rest
        kept = " ".join(f"--context {name}" for name in rest if name not in (*later, *whose)) or "--context NAME"
        why = []
        if later:
            why.append(f"{later} may be known only after a decision, and would tell a model what it should predict")
        if whose:
            take = "" if self.roles.user else f": --user {whose[0]} keeps the rows of each together"
            why.append(f"{whose} sound like who it was{take}")
        ask = "or name" if whose and not later and not self.roles.user else "name"
        raise LogError(f"{self.path.name}: {'; '.join(why)}; {ask} the columns of the context: {kept}")


def _kind_and_value(words: str) -> tuple[str, str]:
    """The type that Arrow could not make of a value, and the value, as far as they are said."""
    kind, value = re.search(r"conversion error to (\w+)", words), re.search(r"invalid value '(.*)'", words, re.DOTALL)
    return kind[1] if kind else "", value[1] if value else ""


class WidenedError(LogError):
    """A context column has values of a wider type than its first ones: read again."""
