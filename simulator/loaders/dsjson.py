"""dsjson, Vowpal Wabbit's log line: one JSON object a decision, both ways.

    _label_cost -reward   _label_probability propensity   _label_Action from 1   _labelIndex from 0
    a    action numbers from 1, the one shown first       p   probabilities in the order of a
    c    shared features, and _multi: an object for each action, _tag its id
    pdrop   the share of such lines that was thrown away: weight = 1 / (1 - pdrop)
    _skipLearn   deferred and never activated: not an impression

Action numbers may count from 0, where `a` has one. Actions of one name are one: their probabilities add up. Passed over
and counted are lines without a label, outcomes without their decision, lines that are no JSON (at most one in 20, or
the last one, cut short), and labels that contradict each other.

A shared feature goes by NAMESPACE.NAME, and by NAME alone in the namespace `context`. An action is called by its
`_tag`, else by a feature `id`, else by its features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from simulator.contexts import LogError, Value
from simulator.loaders.rows import surveyed
from simulator.storage import lines
from simulator.table import Eligible, Header, Row, Shown, Table, rows_of

OURS = "context"  # the namespace that we write
UNLABELLED = "lines left out: without a label"
DANGLING = "lines left out: outcomes without their decision"
BROKEN = "lines left out: not JSON"
TORN = "lines left out: _labelIndex, _label_Action and a name different actions"
TOLERATED = 0.05  # share of lines that are not JSON
MODEL = "N/A"


class Line(msgspec.Struct, omit_defaults=True):
    """A line as it is read; names that are not here are ignored."""

    c: dict[str, Any]
    cost: float | None = msgspec.field(name="_label_cost", default=None)
    probability: float | None = msgspec.field(name="_label_probability", default=None)
    action: int | None = msgspec.field(name="_label_Action", default=None)
    index: int | None = msgspec.field(name="_labelIndex", default=None)
    skip: bool = msgspec.field(name="_skipLearn", default=False)
    a: list[int] | None = None
    p: list[float] | None = None
    event_id: str | None = msgspec.field(name="EventId", default=None)
    timestamp: str | None = msgspec.field(name="Timestamp", default=None)
    state: dict[str, Any] = msgspec.field(name="VWState", default_factory=dict)
    pdrop: float = 0.0


_JSON = msgspec.json.Decoder()


def read(path: Path, *, learning: bool = True) -> Table:
    """A dsjson file as a table; numbers that a line does not have are 0, as Vowpal Wabbit takes them.

    Raises:
        LogError: a line is no dsjson line of a contextual bandit; says which.
    """
    return surveyed(partial(_rows, path), learning=learning, sparse=True)


def _rows(path: Path, counts: Counter[str]) -> Iterator[Row]:
    fault, broken, number, seen = None, 0, 0, 0
    for number, text in lines(path):
        seen += 1
        try:
            given = _JSON.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            fault, broken = fault or (number, error), broken + 1
            continue
        row = _of_line(path, number, given, counts)
        if row is not None:
            yield row
    cut = fault is not None and broken == 1 and fault[0] == number and seen > 1
    if fault is not None and not cut and broken > TOLERATED * seen:
        at = f"{path.name}, line {fault[0]}"
        raise LogError(f"{at}: {fault[1]}; {broken} of {seen} lines are not JSON, expected one in 20 at most")
    counts[BROKEN] += broken


def _of_line(path: Path, number: int, given: Any, counts: Counter[str]) -> Row | None:
    """The row of a line; None where it teaches nothing, which is counted."""
    labelled = isinstance(given, dict) and given.get("_label_cost") is not None and "_label_probability" in given
    if isinstance(given, dict) and not labelled:
        counts[DANGLING if "c" not in given and "o" in given else UNLABELLED] += 1
        return None
    try:
        row = _row(msgspec.convert(given, Line))
    except (ValueError, TypeError) as error:
        raise LogError(f"{path.name}, line {number}: {error}") from None
    counts[TORN] += row is None
    return row


def _row(line: Line) -> Row | None:
    """None where the label contradicts itself."""
    actions = line.c.get("_multi")
    if not isinstance(actions, list) or not all(isinstance(each, dict) for each in actions):
        raise LogError("c: expected _multi with an object for each action, got none")
    names = [action_name(each) for each in actions]
    eligible = _eligible(line, names)
    if (chosen := _chosen(line, len(names))) is None:
        return None
    own = next(each for each in eligible if each.arm == names[chosen])
    alone = names.count(names[chosen]) == 1 or own.probability is None
    reward = -line.cost if line.cost else 0.0
    model = line.state.get("m")
    return Row(
        decision_id=line.event_id,
        time=None if line.timestamp is None else _time(line.timestamp),
        context=dict(_features(line.c)),
        shown=[Shown(names[chosen], line.probability if alone else own.probability)],
        eligible=eligible,
        reward=reward,
        weight=_weight(line.pdrop),
        model=model if isinstance(model, str) and model != MODEL else None,
        skipped=True if line.skip else None,
    )


def _order(line: Line) -> list[int]:
    """`a` from 0, whether it counts from 0 or from 1."""
    order = line.a or []
    return order if 0 in order else [number - 1 for number in order]


def _chosen(line: Line, K: int) -> int | None:
    """The index of the action shown; None where the line names different ones."""
    named = [] if line.index is None else [line.index]
    named += [] if line.action is None else [line.action - 1]
    named += _order(line)[:1]
    if not named:
        raise LogError("expected _labelIndex, _label_Action or a, got none of them")
    if not 0 <= named[0] < K:
        raise LogError(f"expected one of {K} actions, got number {named[0] + 1}")
    return named[0] if len(set(named)) == 1 else None


def _eligible(line: Line, names: list[str]) -> list[Eligible]:
    """The actions, each name once, with their probabilities where the line has them: those of one name add up."""
    if line.p is None:
        return [Eligible(name, None) for name in dict.fromkeys(names)]
    order = _order(line) if line.a else list(range(len(names)))
    if len(order) != len(line.p) or sorted(order) != list(range(len(names))):
        raise LogError(f"expected a and p for each of {len(names)} actions, got {len(order)} and {len(line.p)}")
    found: dict[str, float] = {}
    for index, p in zip(order, line.p, strict=True):
        found[names[index]] = found.get(names[index], 0.0) + p
    return [Eligible(name, p) for name, p in found.items()]


def _weight(pdrop: float) -> float | None:
    if not 0 <= pdrop < 1:
        raise LogError(f"pdrop: expected a share in [0, 1), got {pdrop:g}")
    return 1 / (1 - pdrop) if pdrop else None


def _time(text: str) -> datetime:
    """A moment; without a zone it is in UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def action_name(action: dict[str, Any]) -> str:
    """What an action is called: its `_tag`, else a feature `id`, else its features."""
    if isinstance(tag := action.get("_tag"), str) and tag:
        return tag
    features = dict(_features(action))
    ids = [value for name, value in features.items() if name.split(".")[-1] == "id" and isinstance(value, str)]
    return ids[0] if ids else msgspec.json.encode(features, order="sorted").decode()


def _features(namespaces: dict[str, Any]) -> Iterator[tuple[str, Value]]:
    """(name, value) of each feature; names that begin with _ are no features."""
    for name, value in namespaces.items():
        if not name.startswith("_"):
            yield from _flat("" if name == OURS and isinstance(value, dict) else name, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if not key.startswith("_"):
                yield from _flat(f"{name}.{key}" if name else key, each)
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _flat(name if isinstance(each, dict) else f"{name}.{i}", each)
    elif value is not None:
        yield name, float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Writer:
    """Rows of a table as dsjson lines."""

    def __init__(self, header: Header) -> None:
        self.arms = header.arms
        self.known: tuple[list[str], msgspec.Raw] = (
            [],
            msgspec.Raw(b"[]"),
        )  # actions of the row before, often the same
        self.uniform = header.probability == "uniform"
        self.written = 0

    def lines(self, batch: Any) -> Iterator[bytes]:
        """A line for each row.

        Raises:
            LogError: a feature's name begins with _, which has a meaning of its own there.
        """
        for row in rows_of(batch):
            self.written += 1
            yield msgspec.json.encode(self._line(row))

    def _line(self, row: Row) -> dict[str, Any]:
        names = list(self.arms) if row.eligible is None else [each.arm for each in row.eligible]
        chosen = names.index(row.shown[-1].arm)
        order = [chosen, *(i for i in range(len(names)) if i != chosen)]
        event = self._event(row)
        made = {
            **_label(row, chosen),
            "o": [] if row.skipped else [{"v": row.reward, "EventId": event}, {"EventId": event, "ActionTaken": True}],
            "Timestamp": _stamp(row.time) if row.time else None,
            "Version": "1",
            "EventId": event,
            "a": [i + 1 for i in order],
            "c": {OURS: _shared(row), "_multi": self._actions(names)},
            "p": self._probabilities(row, order),
            "VWState": {"m": row.model or MODEL},
            "pdrop": _pdrop(row.weight),
        }
        return {name: value for name, value in made.items() if value is not None}

    def _actions(self, names: list[str]) -> msgspec.Raw:
        if names != self.known[0]:
            actions = [{"_tag": name, "arm": {"id": name}} for name in names]
            self.known = names, msgspec.Raw(msgspec.json.encode(actions))
        return self.known[1]

    def _probabilities(self, row: Row, order: list[int]) -> list[float] | None:
        if row.eligible is None:
            return [1 / len(order)] * len(order) if self.uniform else None
        p = [each for i in order if (each := row.eligible[i].probability) is not None]
        return p if len(p) == len(order) else None

    def _event(self, row: Row) -> str:
        """An id that no other line has: lower places of a list are lines of their own."""
        if row.decision_id is None:
            return f"row-{self.written}"
        return f"{row.decision_id}/{row.position}" if row.position else row.decision_id


def _label(row: Row, chosen: int) -> dict[str, Any]:
    own = row.shown[-1]
    return {
        "_label_cost": -row.reward if row.reward else 0.0,
        "_label_probability": own.propensity if own.marginal is None else own.marginal,
        "_label_Action": chosen + 1,
        "_labelIndex": chosen,
        "_skipLearn": True if row.skipped else None,
    }


def _pdrop(weight: float | None) -> float | None:
    """The share that was thrown away; None where nothing was."""
    if weight is None or weight == 1:
        return None
    if weight < 1:
        raise LogError(f"dsjson: expected weights of at least 1, of rows of which a share was dropped, got {weight:g}")
    return 1 - 1 / weight


def _shared(row: Row) -> dict[str, Value]:
    shared: dict[str, Value] = {name: value for name, value in (row.context or {}).items() if value is not None}
    if reserved := [name for name in shared if name.startswith("_")]:
        raise LogError(f"dsjson: expected features whose names do not begin with _, got {reserved}")
    return shared


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
