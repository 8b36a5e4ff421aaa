"""How an experiment's config changes: what a new document makes of it, and what it may not change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bandit.core.document import Document, Kind, arm_spec
from bandit.core.experiment import Config
from bandit.core.features import Layout, numbered, relaid
from bandit.core.slices import INDICES_MAX, Segment, segmented, shares_in
from bandit.errors import Code, Fault, Problem, pointer


def first(name: str, document: Document, before: Config | None = None) -> Config:
    """The config of a new experiment, or of one that was deleted (`before`): it starts from zero."""
    version, generation, schema = (before.version, before.generation, before.schema) if before else (0, 0, 0)
    index = tuple(dict.fromkeys(arm_spec(arm).id for arm in document.arms))
    sliced = _sliced((), (), document)
    return Config(name, version + 1, generation + 1, schema + 1, document, index, tuple(document.rewards), **sliced)


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
    state = before.version + 1, before.generation, before.schema
    more = _sliced(before.slices, before.segments, document) | {
        "resting": _resting(before, document),
        "layout": _layout(before, document),
        "units": _units(before, document, learned),
    }
    after = Config(before.name, *state, document, tuple(index), kinds, **more)
    if learned and (faults := list(_fixed_faults(before, after))):
        detail = "; ".join(f"{fault.pointer}: {fault.expected}" for fault in faults) + "; ?reset=true starts from zero"
        raise Problem(Code.INVALID_EXPERIMENT, detail, faults)
    same = kinds == before.kinds and all(_judged(before.kind(name)) == _judged(after.kind(name)) for name in kinds)
    # else a record may name what others do not know
    known = before.index == after.index and before.slices == after.slices
    if same and known and _columns(before) == _columns(after) and not _differs_at_once(before.document, document):
        return after
    return msgspec.structs.replace(after, schema=before.schema + 1)


def _sliced(names: tuple[str, ...], before: tuple[Segment, ...], document: Document) -> dict[str, Any]:
    """The slices of a config by index, and their segments, in place of those before.

    Raises:
        Problem: `invalid_experiment`, where there have been too many slices.
    """
    names = tuple(dict.fromkeys([*names, *document.sliced]))
    shares = shares_in(document.sliced)
    if len(names) > INDICES_MAX:
        fault = Fault(
            "/slices", f"at most {INDICES_MAX} names of slices in one generation: use one again, or ?reset=true", "more"
        )
        raise Problem.of(Code.INVALID_EXPERIMENT, [fault])
    if isinstance(shares, str):
        shares = {}  # `faults_of` says what is wrong with them
    index = {name: i for i, name in enumerate(names)}
    segments = segmented(before, {index[name]: share for name, share in shares.items()}) if shares else before
    return {"slices": names, "segments": segments}


def _resting(before: Config, document: Document) -> tuple[str, ...]:
    """The arms that are left out and were paused when they were."""
    paused = [arm.id for arm in map(arm_spec, before.document.arms) if arm.paused]
    named = {arm_spec(arm).id for arm in document.arms}
    return tuple(name for name in dict.fromkeys([*before.resting, *paused]) if name not in named)


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
    if any(getattr(before, name) != getattr(document, name) for name in ("status", "fallback_arm", "shadow")):
        return True
    shown = _shown(document)
    return any(shown.get(arm) != limits for arm, limits in _shown(before).items())


def _shown(document: Document) -> dict[str, object]:
    """What limits each arm that may be shown."""
    arms = [arm for arm in map(arm_spec, document.arms) if not arm.paused]
    return {arm.id: (arm.when, arm.since, arm.until) for arm in arms}


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
