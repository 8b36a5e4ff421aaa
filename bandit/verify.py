"""Verification: the checkpoints against the log itself, bit for bit."""

from __future__ import annotations

from bandit.checkpoint import load
from bandit.errors import Code, CorruptLog, Problem
from bandit.experiment import Config, Experiment, compile_config
from bandit.fold import read_events
from bandit.log import START, Position
from bandit.store import Store
from bandit.sums import increments

TRIES = 5  # a trim in the middle moves the base, a change moves the experiment: then once more


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
    for _ in range(TRIES):
        before = _frame(store, name)
        try:
            result = _verified(store, name, compile_config(before[0]), batch)
        except CorruptLog:
            if _frame(store, name) == before:
                raise
        else:
            if _frame(store, name) == before:
                return result
    raise Problem(Code.STORE_UNAVAILABLE, "the log was trimmed or its experiment changed while it was read; try again")


def _frame(store: Store, name: str) -> tuple[Config, Position]:
    """What must not change while the log is read: the experiment, and the base."""
    stored = store.config(name)
    if stored is None or stored.config.deleted:
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"there is no experiment {name!r}")
    return stored.config, store.cursor(name, "base")


def _verified(store: Store, name: str, experiment: Experiment, batch: int) -> dict[str, object]:
    checkpoint = load(store, name, "sums", experiment)
    folded = load(store, name, "base", experiment)
    generation, (_, m, d) = experiment.config.generation, experiment.shape
    position, end = START, store.end(name)
    count = decisions = feedback = 0
    while position < end and (entries := store.read(name, position, batch)):
        found = read_events(entries, generation, experiment.defaults, m, d)
        held = found.only(folded.ahead(found) & ~checkpoint.ahead(found))
        folded.sums.add(*increments(held.events))
        position = entries[-1].position
        count, decisions, feedback = count + len(entries), decisions + found.decisions, feedback + found.feedback
    equal = folded.sums.digest() == checkpoint.sums.digest()
    at = position.text().decode()
    return {"equal": equal, "folded": count, "decisions": decisions, "feedback": feedback, "position": at}
