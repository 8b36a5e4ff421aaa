"""dsjson, Vowpal Wabbit's log line: one JSON object a decision, both ways.

    _label_cost -reward   _label_probability propensity   _label_Action from 1   _labelIndex from 0
    a    action numbers from 1, the one shown first       p   probabilities in the order of a
    c    shared features, and _multi: an object for each action, _tag its id
    pdrop   the share of such lines that was thrown away: weight = 1 / (1 - pdrop)
    _skipLearn   deferred and never activated: not an impression

Action numbers count from 0 in a line whose `a` has one. Actions of one name are one: their probabilities add up; a line
that has them without `p` is skipped. So are lines without a label, and up to a share of all, which an option says:
lines that are no JSON (the last one, cut short, is not in it), outcomes without their decision, and labels that
contradict each other. All are counted. Decisions of several slots are refused.

A shared feature goes by NAMESPACE.NAME, and by NAME alone in the namespace `context`. An action is called by its
`_tag`, else by a feature `id`, else by its features, with every digit of their numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from simulator.logs.cleaning import FAULTY, refuse_unrewarded
from simulator.logs.contexts import LogError, Value
from simulator.logs.loaders.rows import surveyed
from simulator.logs.storage import lines
from simulator.logs.table import Eligible, Header, Row, Shown, Table, rows_of

OURS = "context"  # the namespace that we write
UNLABELLED = "lines left out: without a label"
DANGLING = "lines left out: outcomes without their decision"
BROKEN = "lines left out: not JSON"
TORN = "lines left out: _labelIndex, _label_Action and a name different actions"
TWINS = "lines left out: equal actions without all their probabilities"
SLOTS = "_outcomes"  # of the format's kinds with several slots
DROPPED = "rows that stand for others too, by their pdrop: weight 1 / (1 - pdrop)"
FAULTS = {DANGLING, BROKEN, TORN}
MODEL = "N/A"
EXACT = 2**53  # size up to which float64 has every whole number


class Left(NamedTuple):
    """Why a line gives no row."""

    why: str
    detail: str


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


def read(path: Path, *, learning: bool = True, faulty: float = FAULTY) -> Table:
    """A dsjson file as a table; numbers that a line does not have are 0, as Vowpal Wabbit takes them.

    Args:
        path: the file, compressed or not.
        learning: whether the logging policy learned.
        faulty: the largest share of lines, in [0, 1], that may be no JSON, outcomes only, or contradict themselves; and
            of those that may have no label.

    Raises:
        LogError: a line is no dsjson line of a contextual bandit, says which; or more than `faulty` are none.
    """
    if not 0 <= faulty <= 1:
        raise LogError(f"faulty: expected a share in [0, 1], got {faulty:g}")
    return surveyed(partial(_rows, path, faulty), learning=learning, sparse=True)


def _rows(path: Path, faulty: float, counts: Counter[str]) -> Iterator[Row]:
    first, bad, cut, seen = "", 0, False, 0
    for number, text in lines(path):
        seen, at = seen + 1, f"{path.name}, line {number}"
        found = _of_line(at, text)
        cut = isinstance(found, Left) and found.why == BROKEN
        if isinstance(found, Row):
            counts[DROPPED] += found.weight is not None
            yield found
            continue
        counts[found.why] += 1
        if found.why in FAULTS:
            first, bad = first or f"{at}: {found.detail}", bad + 1
    refuse_unrewarded("lines", counts[UNLABELLED], seen - bad, faulty)
    if bad - (cut and seen > 1) > faulty * seen:
        raise LogError(f"{first}; {bad} of {seen} lines have such faults, expected a share of {faulty:g} at most")


def _of_line(at: str, text: bytes) -> Row | Left:
    """The row of a line, or why there is none."""
    try:
        given = _JSON.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Left(BROKEN, str(error))
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if value is not None}
        if SLOTS in given:
            raise LogError(f"{at}: expected decisions of one slot, got {SLOTS}, those of several")
        if "_label_cost" not in given or "_label_probability" not in given:
            return Left(DANGLING if "c" not in given and "o" in given else UNLABELLED, "an outcome without c")
    try:
        return _row(msgspec.convert(given, Line))
    except (ValueError, TypeError, OverflowError) as error:
        raise LogError(f"{at}: {error}") from None


def _row(line: Line) -> Row | Left:
    """The row, or that the label contradicts itself, or that actions are equal and have no p."""
    actions = line.c.get("_multi")
    if not isinstance(actions, list) or not all(isinstance(each, dict) for each in actions):
        raise LogError("c: expected _multi with an object for each action, got none")
    names = [action_name(each) for each in actions]
    eligible = _eligible(line, names)
    if (chosen := _chosen(line, len(names))) is None:
        return Left(TORN, f"_labelIndex {line.index}, _label_Action {line.action} and a {line.a} contradict each other")
    if line.p is None and len(eligible) < len(names):
        return Left(TWINS, "")
    own = next(each for each in eligible if each.arm == names[chosen])
    alone = names.count(names[chosen]) == 1
    reward = -line.cost if line.cost else 0.0
    model = line.state.get("m")
    return Row(
        decision_id=line.event_id,
        time=None if line.timestamp is None else _time(line.timestamp),
        context={name: float(each) if type(each) is int else each for name, each in _features(line.c)},
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
    first = 0 if line.a and 0 in line.a and line.action == line.a[0] else 1
    named += [] if line.action is None else [line.action - first]
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
        got = f"{line.a} and {len(line.p)} probabilities"
        raise LogError(f"expected a and p to have each of {len(names)} actions once, got {got}")
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
    features = dict(_features(action))
    ids = [value for name, value in features.items() if name.split(".")[-1] == "id"]
    for name in (action.get("_tag") or None, *ids):
        if isinstance(name, str) or type(name) is int:
            return str(name)
    same = {name: float(each) if type(each) is int and abs(each) <= EXACT else each for name, each in features.items()}
    return msgspec.json.encode(same, order="sorted").decode()


def _features(namespaces: dict[str, Any]) -> Iterator[tuple[str, Value | int]]:
    """(name, value) of each feature; names that begin with _ are no features."""
    for name, value in namespaces.items():
        if not name.startswith("_"):
            yield from _flat("" if name == OURS and isinstance(value, dict) else name, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Value | int]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if not key.startswith("_"):
                yield from _flat(f"{name}.{key}" if name else key, each)
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _flat(name if isinstance(each, dict) else f"{name}.{i}", each)
    elif value is not None:
        yield name, value


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
            LogError: a feature's name begins with _, which has a meaning of its own there; a weight is below 1; or the
                arm shown was not eligible.
        """
        for row in rows_of(batch):
            self.written += 1
            yield msgspec.json.encode(self._line(row))

    def _line(self, row: Row) -> dict[str, Any]:
        names = list(self.arms) if row.eligible is None else [each.arm for each in row.eligible]
        if (own := row.shown[-1].arm) not in names:
            raise LogError(f"dsjson: expected the arm shown among the eligible ones, got {own!r} and {names[:3]}")
        chosen = names.index(own)
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
        """An id that no other line has: lower positions of a list are lines of their own."""
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
