"""The log as rows for people and other programs: one row per entry, with contexts as feature values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bandit.core.experiment import Experiment, compile_config
from bandit.core.times import time_of
from bandit.errors import Code, CorruptLog, Problem
from bandit.log.records import (
    DEFERRED,
    START,
    Decision,
    Entry,
    Position,
    decision_id,
    known,
    read_config,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
)
from bandit.log.vectors import unpack_x
from bandit.store.keys import SHARD
from bandit.store.readable import Readable

READ = 2000
SAME = 200_000  # arms in lists of eligible ones that are kept, as most decisions have the list of an earlier one


def export(store: Readable, name: str) -> Iterator[dict[str, Any]]:
    """Every entry of an experiment's log up to its end as it is now, in order; of a deleted one while it is kept.

    Raises:
        Problem: there is no such experiment.
    """
    stored = store.config(name)
    if stored is None:
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {name!r}")
    rows, end = Rows(), store.end(name)
    entries = store.read(name, START, READ)
    if base := store.base_config(name):  # read after the entries: a trim in between adds to what it knows
        at = store.cursor(name, "base")
        yield from rows.rows([Entry(at, b"x", base)])  # the one in force where the log was cut
    while entries:
        yield from rows.rows([entry for entry in entries if entry.position <= end])
        entries = store.read(name, entries[-1].position, READ) if entries[-1].position < end else []


class Rows:
    """Turns entries into rows; keeps the last config of each generation, which says what its entries mean."""

    def __init__(self) -> None:
        self.experiments: dict[int, Experiment] = {}
        self._lists: dict[tuple[int, bytes, bytes, bytes], list[dict[str, Any]]] = {}
        self._arms = 0  # in these

    def told(self, config: bytes) -> None:
        """Take note of the config in force before the first entry, as the log has it."""
        self._experiment(Entry(START, b"x", config))

    def rows(self, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        """The rows of entries, in order; feature vectors are decoded together up to each change of the experiment."""
        run: list[Entry] = []
        for entry in entries:
            run.append(entry)
            if entry.tag == b"x":
                yield from self._run(run)
                run = []
        yield from self._run(run)

    def _run(self, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        decisions = {entry.position: unpack_decision(entry.record) for entry in entries if entry.tag == b"d"}
        contexts = self._contexts(decisions)
        for entry in entries:
            if entry.tag == b"d":
                row = self._decision(entry.position, decisions[entry.position], contexts[entry.position])
            elif entry.tag == b"f":
                row = self._feedback(entry)
            elif entry.tag == b"a":
                row = self._activation(entry)
            elif entry.tag == b"x":
                row = self._experiment(entry)
            else:
                raise CorruptLog(f"log entry {entry.position.text().decode()} is of no kind that this version knows")
            yield {**row, "time": time_of(entry.position.ms), "position": entry.position.text().decode()}

    def _contexts(self, decisions: Mapping[Position, Decision]) -> dict[Position, dict[str, Any]]:
        """The context of each decision."""
        contexts: dict[Position, dict[str, Any]] = {}
        for generation in {decision.head.generation for decision in decisions.values()}:
            encoder = self._of(generation).encoder
            own = {at: decision for at, decision in decisions.items() if decision.head.generation == generation}
            x = unpack_x([(decision.x, decision.head.flags) for decision in own.values()], encoder.d, encoder.layout)
            contexts |= zip(own, encoder.decode(x), strict=True)
        return contexts

    def _of(self, generation: int) -> Experiment:
        if generation not in self.experiments:
            raise CorruptLog(f"the log does not hold the config of generation {generation}")
        return self.experiments[generation]

    def _decision(self, at: Position, d: Decision, context: dict[str, Any]) -> dict[str, Any]:
        config = self._of(d.head.generation).config
        names = config.index
        arms = zip(d.arms, d.propensities, d.marginals, strict=True)
        return {
            "type": "decision",
            "decision_id": d.caller or decision_id(SHARD, at, d.head.nonce),
            "arms": [{"arm": names[arm], "propensity": p, "marginal": known(marginal)} for arm, p, marginal in arms],
            "eligible": self._eligible(d, names),
            "user": d.user.hex() or None,
            "slice": d.head.slice if d.slices else None,
            **(_sliced(config.slices, d) if d.slices else {}),
            "deferred": bool(d.head.flags & DEFERRED),
            "experiment_version": d.head.version,
            "generation": d.head.generation,
            "context": context,
            "u": d.head.u,
            "model_position": Position(d.head.model_ms, d.head.model_seq).text().decode(),
        }

    def _eligible(self, d: Decision, names: Sequence[str]) -> list[dict[str, Any]]:
        """The eligible arms with their probabilities; one list for all decisions that have the same."""
        mixture = d.mixture if d.slices else None
        key = (
            d.head.generation, d.eligible.tobytes(), d.probabilities.tobytes(),
            b"" if mixture is None else mixture.tobytes(),
        )  # fmt: skip
        if (found := self._lists.get(key)) is not None:
            return found
        told = zip(d.eligible.tolist(), d.probabilities.tolist(), strict=True)
        eligible = [{"arm": names[arm], "probability": p} for arm, p in told]
        if mixture is not None:
            eligible = [{**each, "mixture": p} for each, p in zip(eligible, mixture.tolist(), strict=True)]
        self._arms += len(eligible)
        if self._arms > SAME:
            self._lists, self._arms = {}, len(eligible)
        self._lists[key] = eligible
        return eligible

    def _feedback(self, entry: Entry) -> dict[str, Any]:
        f = unpack_feedback(entry.record)
        experiment = self._of(f.generation)
        kind = experiment.kinds[f.kind]
        return {
            "type": "feedback",
            "decision_id": f.caller or decision_id(SHARD, f.decision, f.nonce),
            "decided": time_of(f.decision.ms),
            "arm": experiment.config.index[f.arm],
            "event": experiment.config.kinds[f.kind],
            "event_id": f.event or None,
            **({"refund_of": f.refund_of} if f.refund_of else {}),
            "generation": f.generation,
            "value": kind.value(f.value),
            "credited": kind.value(f.new[f.kind] - f.old[f.kind]),
        }

    def _activation(self, entry: Entry) -> dict[str, Any]:
        a = unpack_activation(entry.record)
        decided = a.caller or decision_id(SHARD, a.decision, a.nonce)
        return {"type": "activation", "decision_id": decided, "generation": a.generation}

    def _experiment(self, entry: Entry) -> dict[str, Any]:
        config = read_config(entry.record)
        document = None
        if not config.deleted:
            self.experiments[config.generation] = compile_config(config)
            document = msgspec.json.decode(msgspec.json.encode(config.document))  # as values, with every default
        return {
            "type": "experiment",
            "version": config.version,
            "generation": config.generation,
            "document": document,
            "deleted": config.deleted,
        }


def _sliced(names: Sequence[str], d: Decision) -> dict[str, Any]:
    """The slice's name, and the share of each slice at that decision."""
    return {"slice_name": names[d.head.slice], "shares": {names[part.slice]: part.share for part in d.slices}}
