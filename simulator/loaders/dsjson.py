"""dsjson, Vowpal Wabbit's log line: one JSON object a decision, both ways.

    _label_cost -reward   _label_probability propensity   _label_Action from 1   _labelIndex from 0
    a    action numbers from 1, the one shown first       p   probabilities in the order of a
    c    shared features, and _multi: an object for each action, _tag its id
    pdrop   the share of such lines that was thrown away: weight = 1 / (1 - pdrop)
    _skipLearn   deferred and never activated: not an impression

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
from simulator.storage import json_of, lines
from simulator.table import Eligible, Header, Row, Shown, Table, rows_of

OURS = "context"  # the namespace that we write
UNLABELLED = "lines left out: without a label"
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


_LINE = msgspec.json.Decoder(Line)


def read(path: Path, *, learning: bool = True) -> Table:
    """A dsjson file as a table; numbers that a line does not have are 0, as Vowpal Wabbit takes them.

    Raises:
        LogError: a line is no dsjson line of a contextual bandit; says which.
    """
    return surveyed(partial(_rows, path), learning=learning, sparse=True)


def _rows(path: Path, counts: Counter[str]) -> Iterator[Row]:
    for number, text in lines(path):
        line = json_of(path, number, text, _LINE)
        if line.cost is None or line.probability is None:
            counts[UNLABELLED] += 1
            continue
        try:
            yield _row(line)
        except (ValueError, TypeError) as error:
            raise LogError(f"{path.name}, line {number}: {error}") from None


def _row(line: Line) -> Row:
    actions = line.c.get("_multi")
    if not isinstance(actions, list) or not all(isinstance(each, dict) for each in actions):
        raise LogError("c: expected _multi with an object for each action, got none")
    names = [action_name(each) for each in actions]
    chosen = _chosen(line, len(names))
    reward = -line.cost if line.cost else 0.0
    model = line.state.get("m")
    return Row(
        decision_id=line.event_id,
        time=None if line.timestamp is None else _time(line.timestamp),
        context=dict(_features(line.c)),
        shown=[Shown(names[chosen], line.probability)],
        eligible=_eligible(line, names),
        reward=reward,
        weight=_weight(line.pdrop),
        model=model if isinstance(model, str) and model != MODEL else None,
        skipped=True if line.skip else None,
    )


def _chosen(line: Line, K: int) -> int:
    """The index of the action shown: as said, else the first of `a`."""
    if line.index is not None:
        index = line.index
    elif line.action is not None or line.a:
        index = (line.action or (line.a or [0])[0]) - 1
    else:
        raise LogError("expected _labelIndex, _label_Action or a, got none of them")
    if not 0 <= index < K:
        raise LogError(f"expected one of {K} actions, got number {index + 1}")
    return index


def _eligible(line: Line, names: list[str]) -> list[Eligible]:
    """The actions, with their probabilities where the line has them."""
    if line.p is None:
        return [Eligible(name, None) for name in names]
    order = line.a or list(range(1, len(names) + 1))
    if len(order) != len(line.p) or sorted(order) != list(range(1, len(names) + 1)):
        raise LogError(f"expected a and p for each of {len(names)} actions, got {len(order)} and {len(line.p)}")
    return [Eligible(names[number - 1], p) for number, p in zip(order, line.p, strict=True)]


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
