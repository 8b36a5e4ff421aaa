"""The twin of `lua/append.lua` in this process's memory: judges and logs a batch's items in turn."""

from __future__ import annotations

from collections import Counter, defaultdict
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
class _LoggedDecision:
    """A decision that the log has."""

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
class _Life:
    """What is known of a rewarded or activated decision."""

    active: bool
    expires: int
    events: dict[tuple[int, int, bytes], int | None] = field(default_factory=dict)  # arm, kind, event id: what is left
    totals: dict[tuple[int, int], int] = field(default_factory=dict)  # arm, kind: what its events come to
    credits: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of an arm
    count: int = 0
    held: _LoggedDecision | None = None  # while its events may be taken back


@dataclass
class _Event:
    """What a user's event with an id of the caller's was credited to, for each arm."""

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
    refundable: dict[bytes, Position] = field(default_factory=dict)  # of a caller's id: the last that is held
    users: dict[bytes, list[Position]] = field(default_factory=lambda: defaultdict(list))
    lives: dict[Position, _Life] = field(default_factory=dict)
    events: dict[tuple[bytes, int, int, bytes], _Event] = field(default_factory=dict)  # user, generation, kind, event
    lease: Lease | None = None
    tables: dict[Table, dict[int, Row]] = field(default_factory=lambda: {"sums": {}, "base": {}})
    cursors: dict[Table, Position] = field(default_factory=lambda: {"sums": START, "base": START})
    base_config: bytes = b""
    series: dict[str, bytes] = field(default_factory=dict)
    counted: Position = START  # the series' cursor
    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter)  # what wrote nothing, by minute and status

    def add(self, ms: int, tag: bytes, record: bytes) -> Position:
        """Log an entry at this time, or at the last one's where that is later: its position."""
        ms = max(ms, self.last.ms)
        self.last = Position(ms, self.last.seq + 1 if ms == self.last.ms else 0)
        self.entries[self.last] = Entry(self.last, tag, record)
        return self.last

    def fetch(self, position: Position) -> _LoggedDecision | None:
        """The decision at a position; None where there is none."""
        entry = self.entries.get(position)
        if entry is None or entry.tag != b"d":
            return None
        return _LoggedDecision(position, entry.record, unpack_decision(entry.record))


class Step:
    """One append, as `lua/append.lua` does it."""

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
        if item.caller and (before := self._by_caller(item.caller)) and before.generation == self.rules.generation:
            return Logged(before.position, before.record)
        if item.sticky_ms and (last := self._last_of(item.user)) and self.now < last.position.ms + item.sticky_ms:
            return Logged(last.position, last.record, sticky=True)
        position = self.log.add(self.now, b"d", item.record)
        if item.caller:
            self.log.callers[item.caller] = position
        if item.user:
            self.log.users[item.user] = [position, *self.log.users[item.user]][:USER_MAX]
        if self.log.stored:
            self.log.stored = self.log.stored._replace(learned=True)
        return Logged(position)

    def _last_of(self, user: bytes) -> _LoggedDecision | None:
        """A user's last decision, if it is of this generation."""
        last = self.log.fetch(next(iter(self.log.users.get(user, ())), START))
        return last if last and last.generation == self.rules.generation else None

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

    def _is_remembered(self, logged: _LoggedDecision) -> bool:
        """Whether a grace period after its deadline has not passed yet."""
        return self.now <= logged.deadline + self.rules.grace_ms

    def _by_caller(self, caller: bytes) -> _LoggedDecision | None:
        """The decision that has a caller's own id, while it is remembered."""
        position = self.log.callers.get(caller)
        logged = self.log.fetch(position) if position else None
        return logged if logged and self._is_remembered(logged) else None

    def _held(self, position: Position) -> _LoggedDecision | None:
        """A decision of this generation that is kept while its events may be taken back."""
        life = self.log.lives.get(position)
        held = life.held if life and self.now <= life.expires else None
        return held if held and held.generation == self.rules.generation else None

    def _refundable(self, caller: bytes) -> _LoggedDecision | None:
        """The decision that has a caller's own id, for a refund: the last one that was rewarded."""
        named = self._by_caller(caller)
        if named and named.generation == self.rules.generation and self._life(named).count:
            return named
        position = self.log.refundable.get(caller)
        kept = self._held(position) if position else None
        return kept or named

    def _find(self, ref: Ref, refund: bool = False) -> _LoggedDecision | Outcome:
        if not ref.entry:
            return (self._refundable if refund else self._by_caller)(ref.caller) or Outcome("unknown")
        position = Position.parse(ref.entry)
        logged = self.log.fetch(position) or (self._held(position) if refund else None)
        if logged:
            mine = logged.decision.head.nonce == ref.nonce and not logged.decision.caller
            return logged if mine else Outcome("unknown")
        oldest = next(iter(self.log.entries), START)
        return Outcome("late", position=position, nonce=ref.nonce) if position < oldest else Outcome("unknown")

    def _life(self, logged: _LoggedDecision) -> _Life:
        life = self.log.lives.get(logged.position)
        if life is None or self.now > life.expires:
            active = not logged.decision.head.flags & DEFERRED
            life = self.log.lives[logged.position] = _Life(active, logged.deadline + self.rules.grace_ms)
        return life

    def _credits(self, logged: _LoggedDecision, life: _Life, arm: int) -> tuple[int, ...]:
        defaults = tuple(rule.default for rule in self.rules.kinds)[: logged.decision.head.m]
        known = life.credits.get(arm, defaults)
        return known + (0,) * (len(self.rules.kinds) - len(known))

    def _credit(self, logged: _LoggedDecision, item: Reward) -> Outcome:
        arms = logged.decision.arms
        if logged.generation != self.rules.generation:
            return logged.answer("late")
        if item.arm == NO_ARM and len(arms) > 1:
            return logged.answer("arm")
        item = item._replace(arm=arms[0] if item.arm == NO_ARM else item.arm)
        if item.arm not in arms and not item.refund_of:
            return logged.answer("shown")
        life, rule = self._life(logged), self.rules.kinds[item.kind]
        seen = (item.arm, item.kind) in life.totals
        if (item.event and (item.arm, item.kind, item.event) in life.events) or (rule.aggregation == "first" and seen):
            return logged.answer("duplicate")
        if self.now > logged.deadline + (self.rules.refunds_ms if item.refund_of else 0):
            return logged.answer("late")
        if life.count >= EVENTS_MAX * (2 if item.refund_of else 1):
            return logged.answer("events")
        if item.refund_of:
            taken = _taken(life, item)
            if isinstance(taken, str):
                return logged.answer(taken)
            item = item._replace(credit=-taken)
        before = life.totals.get((item.arm, item.kind), 0) if rule.aggregation == "sum" else 0
        total = before + item.credit
        if not rule.low <= total <= rule.high and not (rule.clip or item.refund_of):
            return logged.answer("range")
        return self._keep(logged, item, total)

    def _keep(self, logged: _LoggedDecision, item: Reward, total: int) -> Outcome:
        life, d, rule, arm = self._life(logged), logged.decision, self.rules.kinds[item.kind], item.arm
        old, within = self._credits(logged, life, arm), max(rule.low, min(rule.high, total))
        clipped, adds = within != total, rule.aggregation == "sum"
        pending = not life.active and (self.rules.explicit or bool(item.refund_of))
        if not life.active and not pending:
            self._activate(logged)
        new = (*old[: item.kind], within, *old[item.kind + 1 :])
        flags = d.head.flags & SPARSE | PENDING * pending | CLIPPED * clipped
        event, of, head = item.event.decode(), item.refund_of.decode(), d.head
        what = item.kind, logged.position, head.nonce, d.caller, arm, item.credit, event, old, new, d.x, of
        record = Feedback(flags, head.generation, *what)
        self.log.add(self.now, b"f", pack_feedback(record, self.rules.schema))
        life.count += 1
        life.credits[arm] = new
        life.totals[arm, item.kind] = total
        if of:
            life.events[arm, item.kind, item.refund_of] = (
                life.events[arm, item.kind, item.refund_of] or 0
            ) + item.credit
        elif adds and self.rules.refunds_ms:
            self._hold(logged, life)
        if item.event:
            life.events[arm, item.kind, item.event] = (0 if of else item.credit) if adds else None
        return logged.answer("accepted", within - old[item.kind], clipped)

    def _hold(self, logged: _LoggedDecision, life: _Life) -> None:
        """Keep a decision for as long as its events may be taken back, and where its caller's id stands."""
        if life.held is None and logged.decision.caller:
            self.log.refundable[logged.decision.caller.encode()] = logged.position
        life.held = logged
        life.expires = max(life.expires, logged.deadline + self.rules.refunds_ms + self.rules.grace_ms)

    def _activate(self, logged: _LoggedDecision) -> None:
        d, life = logged.decision, self._life(logged)
        credits_ = tuple(self._credits(logged, life, arm) for arm in d.arms)
        flags, head = d.head.flags & SPARSE, d.head
        record = Activation(flags, head.generation, logged.position, head.nonce, d.caller, d.arms, credits_, d.x)
        self.log.add(self.now, b"a", pack_activation(record, self.rules.schema))
        life.active = True

    def _activation(self, item: Activate) -> Outcome:
        logged = self._find(item.ref)
        if isinstance(logged, Outcome):
            return logged
        if logged.generation != self.rules.generation:
            return logged.answer("late")
        if self._life(logged).active:
            return logged.answer("duplicate")
        if self.now > logged.deadline:
            return logged.answer("late")
        self._activate(logged)
        return logged.answer("activated")

    def _by_id(self, item: Reward) -> Outcome:
        """Feedback by decision id; an event id of the caller's is then known for the decision's user too."""
        logged = self._find(item.ref, bool(item.refund_of))
        if isinstance(logged, Outcome):
            return logged
        judged = self._credit(logged, item)
        if not item.refund_of:
            self._remember(logged.decision.user, item, [(logged, judged)])
        return judged

    def _by_user(self, item: Reward) -> Result:
        """Feedback on a user's decisions. An event that one of them was credited with is a repeat, even if a newer one
        came since, the window passed, or the log no longer has that decision.
        """
        attribution = self.rules.attribution
        if item.refund_of:
            return self._back_by_user(item)
        if repeats := [outcome for _, outcome in self._credited_before(item, item.event)] if item.own_id else []:
            return repeats if attribution == "all" else repeats[0]
        decisions = [d for d in self._of_user(item) if self.now <= d.deadline and self._life(d).active]
        if not decisions:
            return Outcome("unknown")
        chosen = decisions if attribution == "all" else [decisions[0] if attribution == "last" else decisions[-1]]
        judged = [self._credit(decision, item) for decision in chosen]
        self._remember(item.ref.user, item, list(zip(chosen, judged, strict=True)))
        return judged if attribution == "all" else judged[0]

    def _back_by_user(self, item: Reward) -> Result:
        """Take back of an event from each of a user's decisions that was credited with it, whatever came since."""
        before = self._credited_before(item, item.refund_of)
        if len(before) > USER_MAX:
            return Outcome("arm")
        judged = []
        for arm, outcome in before:
            logged = self.log.fetch(outcome.position) or self._held(outcome.position)
            mine = logged is not None and logged.decision.head.nonce == outcome.nonce
            judged.append(self._credit(logged, item._replace(arm=arm)) if logged and mine else Outcome("event"))
        if not judged:
            return Outcome("event")
        return judged if self.rules.attribution == "all" or len(judged) > 1 else judged[0]

    def _known(self, user: bytes, item: Reward, event: bytes) -> _Event:
        """What is kept of a user's event."""
        known = self.log.events.get((user, self.rules.generation, item.kind, event))
        return known if known and self.now <= known.expires else _Event()

    def _remember(self, user: bytes, item: Reward, judged: list[tuple[_LoggedDecision, Outcome]]) -> None:
        """Keep what an event was first credited to, for each arm, for the window and the grace period from now on."""
        accepted = [logged for logged, outcome in judged if outcome.status == "accepted"]
        if not (accepted and user and item.own_id):
            return
        event, credited = self._known(user, item, item.event), defaultdict[int, list[Outcome]](list)
        for logged in accepted:
            arm = logged.decision.arms[0] if item.arm == NO_ARM else item.arm
            credited[arm].append(logged.answer("duplicate"))
        event.credited = credited | event.credited
        window = max(logged.decision.head.window_ms for logged in accepted)
        refunds_ms = self.rules.refunds_ms if self.rules.kinds[item.kind].aggregation == "sum" else 0
        event.expires = max(event.expires, self.now + window + self.rules.grace_ms + refunds_ms)
        self.log.events[user, self.rules.generation, item.kind, item.event] = event

    def _credited_before(self, item: Reward, event: bytes) -> list[tuple[int, Outcome]]:
        """The decisions that a user's event was credited to, each with its arm, newest first; with an arm named, those
        for that arm.
        """
        credited = self._known(item.ref.user, item, event).credited
        found = [(arm, outcome) for arm, known in credited.items() if item.arm in (NO_ARM, arm) for outcome in known]
        return sorted(found, key=lambda each: (*(-part for part in each[1].position), each[0]))

    def _of_user(self, item: Reward) -> list[_LoggedDecision]:
        """A user's decisions of this generation, newest first; with an arm named, those that showed it."""
        kept = [self.log.fetch(position) for position in self.log.users.get(item.ref.user, ())]
        current = [logged for logged in kept if logged and logged.generation == self.rules.generation]
        return [logged for logged in current if item.arm == NO_ARM or item.arm in logged.decision.arms]


def _taken(life: _Life, item: Reward) -> int | str:
    """How much a refund takes back of its event, or why it takes nothing."""
    key = item.arm, item.kind, item.refund_of
    if key not in life.events:
        return "event"
    if (left := life.events[key]) is None:
        return "amount"
    asked = item.credit or left
    return asked if 0 < asked <= left else "left"
