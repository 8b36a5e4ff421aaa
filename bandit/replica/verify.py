"""Verification: the checkpoints against the log itself, bit for bit.

Servers may be writing the log meanwhile, and trimming its start. Trimming moves the base first, so a base that is read
after some entries holds whatever was cut before them; from then on nothing is missed as long as the cut stays behind
the position read up to. Only where the cut overtakes it, all is read again.
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
from bandit.store.readable import Readable

TRIES = 5  # each reads twice as much before the base: a larger one takes longer to read


class _Moved(Exception):  # noqa: N818
    """The log was cut where it had not been read yet, or its experiment changed while the checkpoints were read."""


@dataclass
class _Log:
    """A log that is read from its start."""

    store: Readable
    name: str
    batch: int
    position: Position = START  # read up to here
    base: Position | None = None  # entries up to here may be cut; None: any may

    def read(self) -> list[Entry]:
        """The next entries.

        Raises:
            _Moved: entries that are not in the base may have been cut before them.
        """
        entries = self.store.read(self.name, self.position, self.batch)
        if self.base is not None and self._overtaken(self.base):
            raise _Moved
        if entries:
            self.position = entries[-1].position
        return entries

    def _overtaken(self, base: Position) -> bool:
        """Whether entries after the position may have been cut; asked after reading them, as cuts only move forward."""
        beyond = self.store.cursor(self.name, "base") > max(base, self.position)
        return beyond and self.store.at(self.name, self.position) is None

    def rest(self, end: Position) -> Iterator[list[Entry]]:
        """The entries that follow, up to this position, a batch at a time."""
        while self.position < end:
            if not (entries := self.read()):
                raise _Moved
            yield entries


def verify(store: Readable, name: str, batch: int = 8192) -> dict[str, object]:
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
        loaded = base, load(log.store, log.name, "sums", experiment), log.store.end(log.name)
    except CorruptLog:
        if _config(log) == config:
            raise
        raise _Moved from None
    if _config(log) != config:
        raise _Moved
    return loaded


def _verified(log: _Log, before: int) -> dict[str, object]:
    """The result of `verify`, with `before` batches of the log read before the base."""
    config = _config(log)
    first = [log.read() for _ in range(before)]
    folded, checkpoint, end = _checkpoints(log, config)
    log.base = folded.cursor
    experiment = compile_config(config)
    _, m, d = folded.sums.shape
    count = decisions = feedback = 0
    position = START
    for read in chain(first, log.rest(end)):
        entries = [entry for entry in read if entry.position <= end]  # later ones may be of a later version
        batch = read_events(entries, config.generation, experiment.defaults, m, d, experiment.layout)
        missing = batch.only(folded.ahead(batch) & ~checkpoint.ahead(batch))
        folded.sums.add(*increments(missing.events))
        position = entries[-1].position if entries else position
        count, decisions, feedback = count + len(entries), decisions + batch.decisions, feedback + batch.feedback
    equal = folded.sums.digest() == checkpoint.sums.digest()
    at = position.text().decode()
    return {"equal": equal, "folded": count, "decisions": decisions, "feedback": feedback, "position": at}
