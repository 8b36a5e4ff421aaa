"""Trimming: entries that no feedback can refer to any more leave the log, once the table `base` has their sums.

    cut  the first decision whose own deadline and grace period are still ahead, at most the checkpoints' cursor and
         the position that the series is folded up to

Verification still works, since base + sums of the rest = sums of all. An export has only the rest. Where there is an
archive (`bandit.archive`), nothing is trimmed before it has it; where that falls behind, the log grows, and it is said.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from bandit.core.experiment import Experiment
from bandit.core.sums import Sums, increments, row_head
from bandit.log.batch import EventBatch
from bandit.log.events import read_events
from bandit.log.records import START, Entry, Position, decision_head
from bandit.replica.checkpoint import SLICE
from bandit.replica.folded import Folded
from bandit.store.protocol import Row, Store, is_ahead

log = logging.getLogger(__name__)

STEP = 5000  # entries at a time: what one step blocks
KEPT = 32  # changes of an experiment that are kept before the first decision
BEHIND_MS, AGAIN = 86_400_000, 3600.0  # an archive that has not moved for so long (ms) is told of, so often (s)
_told: dict[str, float] = {}  # when, of an experiment, by the monotonic clock
END = Position(2**63, 0)  # after every entry


def trim(store: Store, name: str, token: bytes, experiment: Experiment, grace_ms: int, counted: Position = END) -> int:
    """Move the base and cut the log by up to `STEP` entries; returns how many went.

    `counted` is the position that the series is folded up to: what it has not counted stays.
    """
    now_ms, cursor = store.now_ms(), min(store.cursor(name, "sums"), counted)
    if is_ahead(now_ms, round(time.time() * 1000), store.end(name).ms):
        return 0  # the clock has jumped: decisions whose windows are open would be trimmed
    now_ms -= grace_ms
    first = store.read(name, START, 2)  # mostly there is nothing to do, and the first entries tell
    if first and first[0].tag == b"x":
        first = store.read(name, START, KEPT + 1)
    if not expired(first, now_ms, cursor) or _begins(first, now_ms):
        return 0
    entries = store.read(name, START, STEP + 1)  # not from the base: it may have moved before a trim that failed
    old = _archived(store, name, expired(entries, now_ms, cursor), now_ms + grace_ms)
    if not old:
        return 0
    if not _move_base(store, name, token, experiment, old):
        return 0
    configs = [entry.record for entry in old if entry.tag == b"x"]
    cut = entries[len(old)].position
    return len(old) if store.trim(name, token, cut, configs[-1] if configs else b"") else 0


def _archived(store: Store, name: str, entries: list[Entry], now_ms: int) -> list[Entry]:
    """Those entries that the archive has; all where there is none. An archive that is left behind is told of."""
    archive = store.archived(name)
    if archive is None:
        return entries
    kept = [entry for entry in entries if entry.position <= archive.cursor]
    now, late = time.monotonic(), now_ms - archive.seen_ms
    if len(kept) < len(entries) and late > BEHIND_MS and now > _told.get(name, -AGAIN) + AGAIN:
        _told[name] = now
        log.warning(
            "%s: its log is not trimmed, and grows: nobody has archived it for %.0f hours; run `bandit-server archive`,"
            " or end it with --forget", name, late / 3_600_000,
        )  # fmt: skip
    return kept


def _begins(entries: list[Entry], now_ms: int) -> bool:
    """Whether there are changes of the experiment alone before the first decision that stays: they stay with it, so
    that an archive which begins within the window has the experiment's creation.
    """
    decided = next((entry for entry in entries if entry.tag != b"x"), None)
    return _is_open(decided, now_ms) if decided else len(entries) <= KEPT


def _is_open(entry: Entry, now_ms: int) -> bool:
    return entry.tag == b"d" and entry.position.ms + decision_head(entry.record).window_ms > now_ms


def expired(entries: list[Entry], now_ms: int, cursor: Position) -> list[Entry]:
    """The entries before the cut; never the last one. `now_ms` is the store's time less the grace period."""
    for i, entry in enumerate(entries[:-1]):
        if _is_open(entry, now_ms) or entry.position >= cursor:
            return entries[:i]
    return entries[:-1]


def _move_base(store: Store, name: str, token: bytes, experiment: Experiment, entries: list[Entry]) -> bool:
    """Add the entries to the base's rows, then move its cursor to the last of them."""
    _, m, d = experiment.shape
    cursor = store.cursor(name, "base")
    batch = read_events(entries, experiment.config.generation, experiment.defaults, m, d, experiment.layout)
    arms = sorted(set(batch.events.arm.tolist()))
    at = entries[-1].position
    per_slice = max(1, SLICE // (8 * d * (d + m)))
    for start in range(0, len(arms), per_slice):
        rows = [_added(store, name, arm, experiment, batch, cursor, at) for arm in arms[start : start + per_slice]]
        if not store.write_rows(name, "base", token, rows, None):
            return False
    return store.write_rows(name, "base", token, [], at)


def _added(
    store: Store, name: str, arm: int, experiment: Experiment, batch: EventBatch, cursor: Position, at: Position
) -> Row:
    """An arm's base row with the batch's events of it that the base does not hold yet."""
    generation, (_, m, d) = experiment.config.generation, experiment.shape
    folded = Folded(Sums.zeros(1, m, d), np.array([cursor], np.int64), at)
    row = store.row(name, "base", arm)
    if row is not None and row_head(row.sums)[0] == generation:
        folded.sums.unpack(0, row.sums, experiment.layout.local)
        folded.upto[0] = max(row.position, cursor)
    mine = batch.only(batch.events.arm == arm)
    mine = mine._replace(events=replace(mine.events, arm=np.zeros(len(mine.events), np.int64)))
    folded.sums.add(*increments(mine.only(folded.ahead(mine)).events))
    return Row(arm, at, folded.sums.pack(0, generation, experiment.layout.own))
