"""The log as rows for people and other programs: an entry a row, contexts as feature values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from bandit.errors import Code, CorruptLog, Problem
from bandit.experiment import Experiment, compile_config
from bandit.keys import SHARD
from bandit.log import (
    DEFERRED,
    START,
    Entry,
    Position,
    decision_id,
    read_config,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
    unpack_x,
)
from bandit.store import Store

READ = 2000


def export(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """Every entry of an experiment's log up to its end as it is now, in order.

    Raises:
        Problem: there is no such experiment.
    """
    stored = store.config(name)
    if stored is None or stored.config.deleted:
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {name!r}")
    rows, end = _Rows(), store.end(name)
    entries = store.read(name, START, READ)
    if base := store.base_config(name):  # read after the entries: a trim in between adds to what it knows
        at = store.cursor(name, "base")
        yield rows.row(Entry(at, b"x", base))  # the one in force where the log was cut
    while entries:
        for entry in entries:
            if entry.position > end:
                return
            yield rows.row(entry)
        entries = store.read(name, entries[-1].position, READ)


class _Rows:
    """Turns entries into rows; knows the config in force, of each generation."""

    def __init__(self) -> None:
        self.experiments: dict[int, Experiment] = {}

    def take_config(self, record: bytes) -> Experiment | None:
        config = read_config(record)
        if config.deleted:
            return None
        self.experiments[config.generation] = compile_config(config)
        return self.experiments[config.generation]

    def row(self, entry: Entry) -> dict[str, Any]:
        kind = {b"d": self._decision, b"f": self._feedback, b"a": self._activation, b"x": self._experiment}.get(
            entry.tag
        )
        if kind is None:
            raise CorruptLog(f"log entry {entry.position.text().decode()} is of no kind that this version knows")
        return {**kind(entry), "time": time_of(entry.position.ms), "position": entry.position.text().decode()}

    def _of(self, generation: int) -> Experiment:
        if generation not in self.experiments:
            raise CorruptLog(f"the log does not hold the config of generation {generation}")
        return self.experiments[generation]

    def _decision(self, entry: Entry) -> dict[str, Any]:
        d = unpack_decision(entry.record)
        experiment = self._of(d.head.generation)
        names, encoder = experiment.config.index, experiment.encoder
        arms = zip(d.arms, d.propensities, d.marginals, strict=True)
        eligible = zip(d.eligible.tolist(), d.probabilities.tolist(), strict=True)
        return {
            "type": "decision",
            "decision_id": d.caller or decision_id(SHARD, entry.position, d.head.nonce),
            "arms": [{"arm": names[arm], "propensity": p, "marginal": marginal} for arm, p, marginal in arms],
            "eligible": [{"arm": names[arm], "probability": p} for arm, p in eligible],
            "user": d.user.hex() or None,
            "slice": d.head.slice or None,
            "deferred": bool(d.head.flags & DEFERRED),
            "experiment_version": d.head.version,
            "context": encoder.decode(unpack_x([(d.x, d.head.flags)], encoder.d)[0]),
            "u": d.head.u,
            "model_position": Position(d.head.model_ms, d.head.model_seq).text().decode(),
        }

    def _feedback(self, entry: Entry) -> dict[str, Any]:
        f = unpack_feedback(entry.record)
        experiment = self._of(f.generation)
        kind = experiment.kinds[f.kind]
        return {
            "type": "feedback",
            "decision_id": f.caller or decision_id(SHARD, f.decision, f.nonce),
            "arm": experiment.config.index[f.arm],
            "event": experiment.config.kinds[f.kind],
            "event_id": f.event or None,
            "value": kind.value(f.value),
            "credited": kind.value(f.new[f.kind] - f.old[f.kind]),
        }

    def _activation(self, entry: Entry) -> dict[str, Any]:
        a = unpack_activation(entry.record)
        return {"type": "activation", "decision_id": a.caller or decision_id(SHARD, a.decision, a.nonce)}

    def _experiment(self, entry: Entry) -> dict[str, Any]:
        config = read_config(entry.record)
        self.take_config(entry.record)
        document = None if config.deleted else msgspec.json.decode(msgspec.json.encode(config.document))
        return {
            "type": "experiment",
            "version": config.version,
            "generation": config.generation,
            "document": document,
            "deleted": config.deleted,
        }


def time_of(ms: int) -> str:
    """The store's milliseconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
