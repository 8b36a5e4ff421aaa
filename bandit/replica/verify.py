"""Verification: the checkpoints against the log itself, bit for bit.

Servers may be at work on it, and the log may be trimmed at its start all the time. Trimming moves the base first, so a
base that is read after some entries holds whatever was cut before them; from then on nothing is missed as long as the
cut stays behind the place that has been read up to. Only where it overtakes that, all is read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from bandit.core.experiment import Config, compile_config
from bandit.core.sums import increments
from bandit.errors import Code, CorruptLog, Problem
from bandit.log.events import read_events
from bandit.log.records import START, Entry, Position
from bandit.replica.folded import Folded, load
from bandit.store.protocol import Store

TRIES = 5  # each reads twice as much before the base: a larger one takes longer to read


class _Moved(Exception):  # noqa: N818
    """The log was cut where it had not been read yet, or its experiment changed while the checkpoints were read."""


@dataclass
class _Log:
    """A log that is read from its start on."""

    store: Store
    name: str
    batch: int
    position: Position = START  # read up to here
    base: Position | None = None  # what was cut up to here does not matter; None: whatever was

    def read(self) -> list[Entry]:
        """The next entries.

        Raises:
            _Moved: some that are not in the base may have been cut before.
        """
        entries = self.store.read(self.name, self.position, self.batch)
        if self.base is not None and self._overtaken(self.base):
            raise _Moved
        if entries:
            self.position = entries[-1].position
        return entries

    def _overtaken(self, base: Position) -> bool:
        """Whether what follows the position may have been cut; asked after reading it, as cuts only move on."""
        beyond = self.store.cursor(self.name, "base") > max(base, self.position)
        return beyond and self.store.at(self.name, self.position) is None

    def rest(self, end: Position) -> Iterator[list[Entry]]:
        """All that follows, up to there."""
        while self.position < end:
            if not (entries := self.read()):
                raise _Moved
            yield entries


def verify(store: Store, name: str, batch: int = 8192) -> dict[str, object]:
    """Fold the base, then the log, each arm up to its own checkpoint, and compare.

    Args:
        store: where the experiment is; servers may be at work on it.
        name: the experiment.
        batch: entries folded at a time; the result does not depend on it.

    Returns:
        `equal`, `folded` (entries of the log), `decisions` and `feedback` among them, `position` folded up to.

    Raises:
        Problem: there is no such experiment.
    """
    for attempt in range(TRIES):
        try:
            return _verified(_Log(store, name, batch), 2**attempt)
        except _Moved:
            continue
    raise Problem(Code.STORE_UNAVAILABLE, "the log was trimmed or its experiment changed while it was read; try again")


def _config(log: _Log) -> Config:
    stored = log.store.config(log.name)
    if stored is None or stored.config.deleted:
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {log.name!r}")
    return stored.config


def _checkpoints(log: _Log, config: Config) -> tuple[Folded, Folded, Position]:
    """(the base, the checkpoints, the log's end): in this order, so that none is behind the one before."""
    experiment = compile_config(config)
    try:
        base = load(log.store, log.name, "base", experiment)
        found = base, load(log.store, log.name, "sums", experiment), log.store.end(log.name)
    except CorruptLog:
        if _config(log) == config:
            raise
        raise _Moved from None
    if _config(log) != config:
        raise _Moved
    return found


def _verified(log: _Log, before: int) -> dict[str, object]:
    """The result; so many batches are read before the base."""
    config = _config(log)
    first = [log.read() for _ in range(before)]
    folded, checkpoint, end = _checkpoints(log, config)
    log.base = folded.cursor
    generation, defaults = config.generation, compile_config(config).defaults
    _, m, d = folded.sums.shape
    count = decisions = feedback = 0
    position = START
    for each in chain(first, log.rest(end)):
        entries = [entry for entry in each if entry.position <= end]  # later ones may be of a later version
        found = read_events(entries, generation, defaults, m, d)
        held = found.only(folded.ahead(found) & ~checkpoint.ahead(found))
        folded.sums.add(*increments(held.events))
        position = entries[-1].position if entries else position
        count, decisions, feedback = count + len(entries), decisions + found.decisions, feedback + found.feedback
    equal = folded.sums.digest() == checkpoint.sums.digest()
    at = position.text().decode()
    return {"equal": equal, "folded": count, "decisions": decisions, "feedback": feedback, "position": at}
