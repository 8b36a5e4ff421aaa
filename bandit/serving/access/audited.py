"""The one way in which a change of an experiment reaches the store: with an entry of the audit log.

The entry is noted as under way before the change, in a step of its own, and put in the log after it. So no change is
without its entry, whatever dies in between: one that was noted and never told of is logged with the outcome `unknown`.
Of a change that was refused, as another came first, nothing stays.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from bandit.access.audit import ACTOR, AuditEntry, entry_of
from bandit.core.document import Document
from bandit.core.experiment import Config
from bandit.errors import StoreUnavailable
from bandit.log.records import Position
from bandit.serving.changes import compared, difference
from bandit.store.protocol import Ahead, Store, Stored

log = logging.getLogger(__name__)

_ARM = "/arms/"


def put_audited(
    store: Store, config: Config, before: Stored | None, clock_ms: int, most: int
) -> Position | Ahead | None:
    """As `Store.put`, by the actor of this context; `most` entries are kept."""
    name, entry = secrets.token_hex(8), change_of(config, before)
    store.audit_begin(name, entry.encoded(), most)
    done = store.put(config, before, clock_ms)
    happened = isinstance(done, Position)
    try:
        store.audit_end(name, entry.done().encoded() if happened else b"", most)
    except StoreUnavailable:
        if happened:  # the change is made, and its entry is in the store
            log.warning("a change of %r is noted in the audit log with an unknown outcome", config.name)
    return done


def change_of(config: Config, before: Stored | None) -> AuditEntry:
    """What a change does, as an entry of the audit log."""
    was = None if before is None or before.config.deleted else before.config
    old = compared(was.document if was else Document({}, ()))
    new = compared(Document({}, ()) if config.deleted else config.document)
    found = list(difference(old, new))
    action, target = _named(config, was, [each["pointer"] for each in found], found)
    gone = {each["pointer"]: each["before"] for each in found if "before" in each and was is not None}
    there = {each["pointer"]: each["after"] for each in found if "after" in each and not config.deleted}
    if was is not None:
        gone["/version"] = was.version
        if config.generation != was.generation:
            gone["/generation"], there["/generation"] = was.generation, config.generation
    if not config.deleted:
        there["/version"] = config.version
    return entry_of(ACTOR.get(), action, target, gone, there)


def _named(config: Config, was: Config | None, places: list[str], found: list[dict[str, Any]]) -> tuple[str, str]:
    """(action, target): of one arm alone it is the arm's."""
    if was is None:
        return "experiment.create", config.name
    if config.deleted:
        return "experiment.delete", config.name
    arms = {place.removeprefix(_ARM).partition("/")[0] for place in places if place.startswith(_ARM)}
    if len(arms) != 1 or not all(place.startswith(_ARM) for place in places) or config.generation != was.generation:
        return "experiment.change", config.name
    arm = arms.pop()
    whole = next((each for each in found if each["pointer"] == _ARM + arm), {})
    action = "arm.change" if not whole or {"before", "after"} <= whole.keys() else "arm.retire"
    action = "arm.create" if whole and "before" not in whole else action
    return action, f"{config.name}/{arm.replace('~1', '/').replace('~0', '~')}"
