"""The section of a report about slices of the traffic that decided side by side: what one earned more."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.ope.lift.sentence import rounded
from simulator.ope.lift.traffic import Effect, Lift
from simulator.reporting.glossary import INTRODUCTION
from simulator.reporting.model import Section, Subject, Table
from simulator.wording import DASH, both, counted, number, percent


def slices(of: Subject) -> Section:
    """One slice against another, of the sum and of each kind of reward; only where `of.lift` is."""
    if of.lift is None:
        raise ValueError("this log has no two slices")
    said, lift = of.lift
    head = ("Reward", lift.slice, lift.baseline, "Difference", f"{of.level} sequence", "Per cent", "Ends", "More")
    lines = [_line(each) for each in (lift.effect, *lift.kinds)]
    table = Table(f"{lift.slice} less {lift.baseline}, a decision", head, lines, ("Reward",))
    return Section("slices", "Slices", [f"{said}.", INTRODUCTION["slices"]], table=table, notes=list(_notes(lift)))


def _line(effect: Effect) -> Sequence[str]:
    name = "sum by weights" if effect.kind is None else effect.kind
    ends = both(effect.value, effect.low, effect.high)
    own = DASH if effect.relative is None else percent(effect.relative, sign=True)
    each = [percent(end, sign=True) for end in (effect.relative_low, effect.relative_high) if end is not None]
    more = DASH if effect.more is None else f"about {rounded(effect.more):,}"
    return name, number(effect.mean), number(effect.baseline), *ends, own, " to ".join(each) or DASH, more


def _notes(lift: Lift) -> list[str]:
    users = counted(lift.users, "users")
    return [f"From {lift.decisions:,} decisions of {users} in which both slices had a share."]
