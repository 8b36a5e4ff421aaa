"""The twin of `lua/append.lua` in this process's memory: judges and logs a batch's items in turn."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from bandit.log.records import (
    CLIPPED,
    DECISION,
    DEFERRED,
    PENDING,
    SHOWN,
    SPARSE,
    START,
    USER,
    Activation,
    Decision,
    Entry,
    Feedback,
    Position,
    decision_head,
    pack_activation,
    pack_feedback,
    unpack_decision,
)
from bandit.store.protocol import (
    EVENTS_MAX,
    NO_ARM,
    USER_MAX,
    Activate,
    Decide,
    Item,
    Lease,
    Logged,
    Outcome,
    Ref,
    Reply,
    Result,
    Reward,
    Row,
    Rules,
    Stored,
    Table,
)


@dataclass
class _Life:
    """What is known of a rewarded or activated decision."""

    active: bool
    events: set[tuple[int, int, bytes]] = field(default_factory=set)  # arm, kind, event id
    seen: set[tuple[int, int]] = field(default_factory=set)  # arm, kind
    credits: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of an arm
    count: int = 0


@dataclass
class _Found:
    """A decision in the log."""

    position: Position
    record: bytes
    decision: Decision

    @property
    def deadline(self) -> int:
        return self.position.ms + self.decision.head.window_ms

    @property
    def generation(self) -> int:
        return self.decision.head.generation

    def answer(self, status: str, credited: int = 0, clipped: bool = False) -> Outcome:
        caller = self.decision.caller.encode()
        return Outcome(status, credited, clipped, self.position, self.decision.head.nonce, caller)


@dataclass
class _Event:
    """What a user's event of the caller's own naming was credited to, for each arm."""

    expires: int = 0
    credited: dict[int, list[Outcome]] = field(default_factory=dict)  # as duplicates of them are answered


@dataclass
class MemoryLog:
    """One experiment's data."""

    stored: Stored | None = None
    entries: dict[Position, Entry] = field(default_factory=dict)
    last: Position = START
    producers: dict[str, tuple[int, Reply]] = field(default_factory=dict)
    callers: dict[bytes, Position] = field(default_factory=dict)
    users: dict[bytes, list[Position]] = field(default_factory=lambda: defaultdict(list))
    lives: dict[Position, _Life] = field(default_factory=dict)
    events: dict[tuple[bytes, int, int, bytes], _Event] = field(default_factory=dict)  # user, generation, kind, event
    lease: Lease | None = None
    tables: dict[Table, dict[int, Row]] = field(default_factory=lambda: {"sums": {}, "base": {}})
    cursors: dict[Table, Position] = field(default_factory=lambda: {"sums": START, "base": START})
    base_config: bytes = b""

    def add(self, ms: int, tag: bytes, record: bytes) -> Position:
        """Log an entry at this time, or at the last one's where that is later: its position."""
        ms = max(ms, self.last.ms)
        self.last = Position(ms, self.last.seq + 1 if ms == self.last.ms else 0)
        self.entries[self.last] = Entry(self.last, tag, record)
        return self.last

    def fetch(self, position: Position) -> _Found | None:
        """The decision at a position; None where there is none."""
        entry = self.entries.get(position)
        if entry is None or entry.tag != b"d":
            return None
        return _Found(position, entry.record, unpack_decision(entry.record))


class Step:
    """One append: judges and logs its items in turn. The twin of `lua/append.lua`."""

    def __init__(self, log: MemoryLog, rules: Rules, now: int) -> None:
        self.log, self.rules, self.now = log, rules, now

    def take(self, item: Item) -> Result:
        """Judge one item, and log it if it is accepted."""
        if isinstance(item, Decide):
            return self._decide(item)
        if isinstance(item, Activate):
            return self._activation(item)
        if item.ref.user:
            return self._by_user(item)
        return self._by_id(item)

    def _decide(self, item: Decide) -> Result:
        if not self._fits(item):
            return Outcome("record")
        if item.caller and (before := self._named(item.caller)) and before.generation == self.rules.generation:
            return Logged(before.position, before.record)
        position = self.log.add(self.now, b"d", item.record)
        if item.caller:
            self.log.callers[item.caller] = position
        if item.user:
            self.log.users[item.user] = [position, *self.log.users[item.user]][:USER_MAX]
        if self.log.stored:
            self.log.stored = self.log.stored._replace(learned=True)
        return Logged(position)

    def _fits(self, item: Decide) -> bool:
        """Whether a record is of this generation and these kinds, as long as it says, and of this caller."""
        record = item.record
        if len(record) < DECISION.size:
            return False
        head = decision_head(record)
        caller_at = DECISION.size + head.x_bytes
        shown_at = caller_at + head.caller_bytes + (16 if head.flags & USER else 0)
        rules = (head.m, head.generation) == (len(self.rules.kinds), self.rules.generation)
        whole = head.k > 0 and len(record) > shown_at + SHOWN.size * head.k
        return rules and whole and record[caller_at : caller_at + head.caller_bytes] == item.caller

    def _is_remembered(self, found: _Found) -> bool:
        """Whether a grace period after its deadline has not passed yet."""
        return self.now <= found.deadline + self.rules.grace_ms

    def _named(self, caller: bytes) -> _Found | None:
        """A caller-named decision, while it is remembered."""
        position = self.log.callers.get(caller)
        found = self.log.fetch(position) if position else None
        return found if found and self._is_remembered(found) else None

    def _find(self, ref: Ref) -> _Found | Outcome:
        if not ref.entry:
            return self._named(ref.caller) or Outcome("unknown")
        position = Position.parse(ref.entry)
        found = self.log.fetch(position)
        if found:
            mine = found.decision.head.nonce == ref.nonce and not found.decision.caller
            return found if mine else Outcome("unknown")
        oldest = next(iter(self.log.entries), START)
        return Outcome("late", position=position, nonce=ref.nonce) if position < oldest else Outcome("unknown")

    def _life(self, found: _Found) -> _Life:
        if not self._is_remembered(found):
            self.log.lives.pop(found.position, None)
        active = not found.decision.head.flags & DEFERRED
        return self.log.lives.setdefault(found.position, _Life(active))

    def _credits(self, found: _Found, life: _Life, arm: int) -> tuple[int, ...]:
        defaults = tuple(rule.default for rule in self.rules.kinds)[: found.decision.head.m]
        known = life.credits.get(arm, defaults)
        return known + (0,) * (len(self.rules.kinds) - len(known))

    def _credit(self, found: _Found, item: Reward) -> Outcome:
        arms = found.decision.arms
        if found.generation != self.rules.generation:
            return found.answer("late")
        if item.arm == NO_ARM and len(arms) > 1:
            return found.answer("arm")
        arm = arms[0] if item.arm == NO_ARM else item.arm
        if arm not in arms:
            return found.answer("shown")
        life, rule = self._life(found), self.rules.kinds[item.kind]
        seen = (arm, item.kind) in life.seen
        if (item.event and (arm, item.kind, item.event) in life.events) or (rule.aggregation == "first" and seen):
            return found.answer("duplicate")
        if self.now > found.deadline:
            return found.answer("late")
        if life.count >= EVENTS_MAX:
            return found.answer("events")
        old = self._credits(found, life, arm)
        total = old[item.kind] + item.credit if rule.aggregation == "sum" and seen else item.credit
        kept = max(rule.low, min(rule.high, total))
        if kept != total and not rule.clip:
            return found.answer("range")
        return self._keep(found, item, arm, old, kept, kept != total)

    def _keep(self, found: _Found, item: Reward, arm: int, old: tuple[int, ...], total: int, clipped: bool) -> Outcome:
        life, d = self._life(found), found.decision
        pending = not life.active and self.rules.explicit
        if not life.active and not pending:
            self._activate(found)
        new = (*old[: item.kind], total, *old[item.kind + 1 :])
        flags = d.head.flags & SPARSE | PENDING * pending | CLIPPED * clipped
        event, head = item.event.decode(), d.head
        record = Feedback(
            flags,
            head.generation,
            item.kind,
            found.position,
            head.nonce,
            d.caller,
            arm,
            item.credit,
            event,
            old,
            new,
            d.x,
        )
        self.log.add(self.now, b"f", pack_feedback(record, self.rules.schema))
        life.count += 1
        life.credits[arm] = new
        life.seen.add((arm, item.kind))
        if item.event:
            life.events.add((arm, item.kind, item.event))
        return found.answer("accepted", total - old[item.kind], clipped)

    def _activate(self, found: _Found) -> None:
        d, life = found.decision, self._life(found)
        credits_ = tuple(self._credits(found, life, arm) for arm in d.arms)
        flags, head = d.head.flags & SPARSE, d.head
        record = Activation(flags, head.generation, found.position, head.nonce, d.caller, d.arms, credits_, d.x)
        self.log.add(self.now, b"a", pack_activation(record, self.rules.schema))
        life.active = True

    def _activation(self, item: Activate) -> Outcome:
        found = self._find(item.ref)
        if isinstance(found, Outcome):
            return found
        if found.generation != self.rules.generation:
            return found.answer("late")
        if self._life(found).active:
            return found.answer("duplicate")
        if self.now > found.deadline:
            return found.answer("late")
        self._activate(found)
        return found.answer("activated")

    def _by_id(self, item: Reward) -> Outcome:
        """An event of the caller's own naming is then known by the decision's user too."""
        found = self._find(item.ref)
        if isinstance(found, Outcome):
            return found
        judged = self._credit(found, item)
        self._remember(found.decision.user, item, [(found, judged)])
        return judged

    def _by_user(self, item: Reward) -> Result:
        """An event that a decision of the user's has been credited with is a repeat, even if a newer one came since, or
        the window passed, or the log no longer has that decision.
        """
        attribution = self.rules.attribution
        if repeats := self._credited_before(item):
            return repeats if attribution == "all" else repeats[0]
        found = [each for each in self._of_user(item) if self.now <= each.deadline and self._life(each).active]
        if not found:
            return Outcome("unknown")
        chosen = found if attribution == "all" else [found[0] if attribution == "last" else found[-1]]
        judged = [self._credit(each, item) for each in chosen]
        self._remember(item.ref.user, item, list(zip(chosen, judged, strict=True)))
        return judged if attribution == "all" else judged[0]

    def _known(self, user: bytes, item: Reward) -> _Event:
        """What is kept of a user's event."""
        key = user, self.rules.generation, item.kind, item.event
        if key in self.log.events and self.now > self.log.events[key].expires:
            del self.log.events[key]
        return self.log.events.get(key, _Event())

    def _remember(self, user: bytes, item: Reward, judged: list[tuple[_Found, Outcome]]) -> None:
        """Keep what an event was credited to, for the window and the grace from now on; an arm's first stay."""
        accepted = [found for found, each in judged if each.status == "accepted"]
        if not (accepted and user and item.own_id):
            return
        event, credited = self._known(user, item), defaultdict[int, list[Outcome]](list)
        for each in accepted:
            arm = each.decision.arms[0] if item.arm == NO_ARM else item.arm
            credited[arm].append(each.answer("duplicate"))
        event.credited = credited | event.credited
        window = max(found.decision.head.window_ms for found in accepted)
        event.expires = max(event.expires, self.now + window + self.rules.grace_ms)
        self.log.events[user, self.rules.generation, item.kind, item.event] = event

    def _credited_before(self, item: Reward) -> list[Outcome]:
        """The decisions that a user's event was credited to, newest first; with an arm named, those for that arm."""
        if not item.own_id:
            return []
        credited = self._known(item.ref.user, item).credited
        found = [each for arm, known in credited.items() if item.arm in (NO_ARM, arm) for each in known]
        return sorted(found, key=lambda each: each.position, reverse=True)

    def _of_user(self, item: Reward) -> list[_Found]:
        """A user's decisions of this generation, newest first; with an arm named, those that showed it."""
        found = [self.log.fetch(position) for position in self.log.users.get(item.ref.user, ())]
        current = [each for each in found if each and each.generation == self.rules.generation]
        return [each for each in current if item.arm == NO_ARM or item.arm in each.decision.arms]
