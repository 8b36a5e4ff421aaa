"""How an experiment's config changes: what a new document makes of it, and what it may not change."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bandit.core.experiment import Config, Document, Kind, arm_spec
from bandit.core.features import Layout, numbered, relaid
from bandit.errors import Code, Fault, Problem, pointer


def first(name: str, document: Document, before: Config | None = None) -> Config:
    """The config of a new experiment, or of one that was deleted (`before`): it starts from zero."""
    version, generation, schema = (before.version, before.generation, before.schema) if before else (0, 0, 0)
    index = tuple(dict.fromkeys(arm_spec(arm).id for arm in document.arms))
    return Config(name, version + 1, generation + 1, schema + 1, document, index, tuple(document.rewards))


def revise(before: Config, document: Document, *, learned: bool, reset: bool) -> Config:
    """The config after `document` takes the place of the one before.

    Args:
        before: the config in force.
        document: the new document, whole.
        learned: whether a decision of this generation has been logged.
        reset: start a new generation from zero, whatever changed.

    Raises:
        Problem: `features_changed` where what was learned on would mean something else, or `invalid_experiment` where a
            reward's fixed parts changed, unless `reset`.
    """
    if before.deleted or reset:
        return first(before.name, document, before)
    index = dict.fromkeys([*before.index, *(arm_spec(arm).id for arm in document.arms)])
    kinds = tuple(dict.fromkeys([*before.kinds, *document.rewards])) if learned else tuple(document.rewards)
    after = Config(before.name, before.version + 1, before.generation, before.schema, document, tuple(index), kinds)
    after = msgspec.structs.replace(after, layout=_layout(before, document), units=_units(before, document, learned))
    if learned and (faults := list(_fixed_faults(before, after))):
        detail = "; ".join(f"{fault.pointer}: {fault.expected}" for fault in faults) + "; ?reset=true starts from zero"
        raise Problem(Code.INVALID_EXPERIMENT, detail, faults)
    same = kinds == before.kinds and all(_judged(before.kind(name)) == _judged(after.kind(name)) for name in kinds)
    if same and _columns(before) == _columns(after) and not _differs_at_once(before.document, document):
        return after
    return msgspec.structs.replace(after, schema=before.schema + 1)


def _layout(before: Config, document: Document) -> Layout | None:
    """The columns of a document that follows; None while they are those of its features, in their order."""
    old, new = before.document.features, document.features
    if new == old:
        return before.layout
    return relaid(before.layout or numbered(old), old, new, before.version + 1)


def _columns(config: Config) -> object:
    """What x consists of: a server that did not know it would write x of other columns."""
    layout = config.layout or numbered(config.document.features)
    return layout.columns, layout.known


def _units(before: Config, document: Document, learned: bool) -> dict[str, float]:
    """The units that kinds began with, where no document says one and their ranges say others by now."""
    units = {}
    for name in before.kinds if learned else ():
        old, new = before.document.rewards[name], document.rewards.get(name)
        if new and old.unit is new.unit is None and new.step != (unit := before.kind(name).step):
            units[name] = unit
    return units


def _judged(kind: Kind) -> object:
    """What feedback is judged by, and R is made of."""
    return kind.default, kind.aggregation, kind.range, kind.step


def _differs_at_once(before: Document, document: Document) -> bool:
    """Whether a server that does not know the new document yet would show an arm that must not be shown any more, or
    decide where nothing, or another fallback, is to be answered.
    """
    switched = (before.status, before.fallback_arm) != (document.status, document.fallback_arm)
    return switched or not _active(before) <= _active(document)


def _active(document: Document) -> set[str]:
    return {arm.id for arm in map(arm_spec, document.arms) if arm.status == "active"}


def _fixed_faults(before: Config, after: Config) -> Iterable[Fault]:
    """Each kind of reward that was learned from, and is missing, narrower, or has other fixed parts now."""
    for name in before.kinds:
        if name not in after.document.rewards:
            yield Fault(pointer("rewards", name), "every kind that has been learned from", "nothing")
            continue
        new, old = after.kind(name), before.kind(name)
        if (new.default, new.step) != (old.default, old.step):
            yield Fault(pointer("rewards", name), "default and unit as they were learned from", "others")
        elif not (new.range[0] <= old.range[0] and old.range[1] <= new.range[1]):
            what = f"a range that has all of {list(old.range)}, which rewards were credited within"
            yield Fault(pointer("rewards", name, "range"), what, "a narrower one")
