"""How an experiment's config changes: what a new document makes of it, and what it may not change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bandit.core.document import Document, arm_spec
from bandit.core.experiment import Config
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
        Problem: `features_changed`, or `invalid_experiment` where a reward's fixed parts changed, unless `reset`.
    """
    if before.deleted or reset:
        return first(before.name, document, before)
    if document.features != before.document.features:
        raise Problem(
            Code.FEATURES_CHANGED,
            "the features differ from what has been learned on; send the old ones, or ?reset=true to start from zero",
            [Fault("/features", "the features of this generation", "others")],
        )
    if learned and (faults := list(_fixed_faults(before, document))):
        detail = "; ".join(f"{fault.pointer}: {fault.expected}" for fault in faults) + "; ?reset=true starts from zero"
        raise Problem(Code.INVALID_EXPERIMENT, detail, faults)
    index = dict.fromkeys([*before.index, *(arm_spec(arm).id for arm in document.arms)])
    kinds = tuple(dict.fromkeys([*before.kinds, *document.rewards])) if learned else tuple(document.rewards)
    same = kinds == before.kinds and all(
        document.rewards[name].fixed() == before.document.rewards[name].fixed() for name in kinds
    )
    schema = before.schema if same and not _differs_at_once(before.document, document) else before.schema + 1
    sliced, version = _sliced(before.slices, before.segments, document), before.version + 1
    return Config(before.name, version, before.generation, schema, document, tuple(index), kinds, **sliced)


def _sliced(names: tuple[str, ...], before: tuple[Segment, ...], document: Document) -> dict[str, Any]:
    """The slices of a config by index, and their segments, in place of those before.

    Raises:
        Problem: `invalid_experiment`, where there have been too many slices, or their shares do not add up.
    """
    names = tuple(dict.fromkeys([*names, *document.sliced]))
    shares = shares_in(document.sliced)
    if isinstance(shares, str):
        raise Problem.of(Code.INVALID_EXPERIMENT, [Fault("/slices", shares, "others")])
    if len(names) > INDICES_MAX:
        fault = Fault("/slices", f"at most {INDICES_MAX} names of slices in one generation", "more")
        raise Problem.of(Code.INVALID_EXPERIMENT, [fault])
    index = {name: i for i, name in enumerate(names)}
    segments = segmented(before, {index[name]: share for name, share in shares.items()}) if shares else before
    return {"slices": names, "segments": segments}


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


def _fixed_faults(before: Config, document: Document) -> Iterable[Fault]:
    """Each kind of reward that was learned from, and is missing or has other fixed parts now."""
    for name in before.kinds:
        new, old = document.rewards.get(name), before.document.rewards[name]
        if new is None:
            yield Fault(pointer("rewards", name), "every kind that has been learned from", "nothing")
        elif new.fixed() != old.fixed():
            what = "default, aggregation, range and unit as they were learned from"
            yield Fault(pointer("rewards", name), what, "others")
