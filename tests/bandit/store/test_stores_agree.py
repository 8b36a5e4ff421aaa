"""The script in a real server and the store in memory judge alike: random histories, and an account of each reply.

Two oracles. The stores must give the same replies and the same log. And the sums must be those that the replies alone
tell: an impression counts x x', every accepted feedback adds its `credited` to one decision's arm, so in the end B is
the sum of (default + all credited) x and R that of its squares, whatever happened in between.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args
from uuid import uuid4

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import DAY, HOUR, Seen, Trial, exact, past, slow_sums, user

from bandit.core.document import Aggregation
from bandit.core.sums import ONE, Sums, increments
from bandit.log.events import read_events
from bandit.log.records import (
    Entry,
    Feedback,
    Position,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
)
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import NO_ARM, Activate, Decide, Item, Logged, Outcome, Ref, Result, Reward, Stale, Store
from bandit.store.redis_store import RedisStore

SHORT = 25  # ms: windows that pass between two batches
KINDS = [
    {"range": [-9, 9], "unit": 1, "aggregation": "sum", "default": -1},
    {"range": [-9, 9], "unit": 1, "aggregation": "first", "over_range": "clip"},
    {"range": [0, 9], "unit": 1, "aggregation": "last", "default": 2},
    {"range": [-4, 9], "unit": 1, "aggregation": "sum", "over_range": "clip", "default": 3},
]
NAMES = ("", "", "c1", "c2")
USERS = ("", "u1", "u2")


class Making(NamedTuple):
    """A decision to be made."""

    arms: tuple[int, ...]
    x: int
    name: str
    user: str
    deferred: bool
    short: bool


class Feeding(NamedTuple):
    """Feedback on a decision (counted back from the newest), a caller's name, or a user."""

    target: int | str
    kind: int
    credit: int
    event: str | None
    arm: int | str | None  # a place of what was shown, another arm, or none
    of: str = ""  # the event that it takes back of, so much as `credit` says, or all


class Showing(NamedTuple):
    """An activation."""

    target: int | str


class Changing(NamedTuple):
    """A change of the experiment."""

    what: str


arms = st.one_of(st.just((0,)), st.just((1,)), st.permutations(range(4)).map(lambda order: tuple(order[:2])))
making = st.builds(
    Making, arms, st.integers(-50, 50), st.sampled_from(NAMES), st.sampled_from(USERS),
    st.sampled_from([False, False, True]), st.sampled_from([False] * 6 + [True]),
)  # fmt: skip
named = st.sampled_from([*range(4)] * 4 + [*NAMES[2:]] * 2 + ["nobody", "forged"])
whose = st.one_of(named, named, st.sampled_from(["u:u1", "u:u2"]))
feeding = st.builds(
    Feeding, whose, st.integers(0, 3), st.one_of(st.integers(-3, 4), st.integers(-10, 10)),
    st.sampled_from([None, "e1", "e1", "e2"]), st.sampled_from([None, None, 0, 1, "other"]),
)  # fmt: skip
back = st.sampled_from(["r1", "r2", "e1"]), st.integers(0, 4), st.sampled_from([None, None, 0])
refunding = st.builds(
    lambda fed, event, credit, arm, of: fed._replace(event=event, credit=credit, arm=arm, of=of),
    feeding, *back, st.sampled_from(["e1", "e1", "e2", "r1", "k0"]),
)  # fmt: skip
sold_and_back = st.builds(  # of one event, named alike or otherwise
    lambda fed, credit, targets, event, part, arm: [
        fed._replace(event="e1", kind=0, credit=credit, arm=arm),
        *(fed._replace(event=event, kind=0, credit=part, target=to or fed.target, arm=arm, of="e1") for to in targets),
    ],
    feeding, st.integers(1, 8), st.lists(st.one_of(st.none(), st.none(), whose), max_size=2), *back,
)  # fmt: skip
showing = st.builds(Showing, named)
changing = st.builds(
    Changing,
    st.sampled_from(
        [
            *("reset", "explicit", "on_decision", "kind", "last", "first", "all", "repeat", "gap", "stale"),
            *("trim", "trim", "trim", "trim", "no refunds"),
        ]
    ),
)


def weighted(**choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of the strategies, so many times as likely as the others."""
    names = [name for name, (weight, _) in choices.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: choices[name][1])


start = st.lists(making, min_size=3, max_size=6)
one = {"made": (1, making), "fed": (5, feeding), "back": (3, refunding), "shown": (1, showing)}
steps = weighted(both=(2, sold_and_back), one=(6, weighted(**one).map(lambda each: [each])))
batch = st.lists(steps, min_size=1, max_size=8).map(lambda parts: [each for part in parts for each in part])
history = st.lists(weighted(batch=(6, batch), change=(2, changing)), min_size=4, max_size=16)


class Side:
    """One of the two stores, and what its replies have told."""

    def __init__(self, store: Store, name: str, grace_ms: int) -> None:
        self.trial = Trial(store, name, grace_ms, rewards={"k0": KINDS[0], "k1": KINDS[1]}, refunds="1h")
        self.gone: list[Entry] = []  # trimmed
        self.refs: list[Ref] = []
        self.shown: dict[Ref, tuple[int, ...]] = {}
        self.decided: dict[Position, tuple[int, Decide]] = {}  # the order in which it was logged, and its record
        self.short: list[Position] = []
        self.credited: dict[tuple[Position, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.active: set[Position] = set()
        self.replies: list[Any] = []

    def items(self, step: list[Any]) -> list[Item]:
        """A batch's requests, with references to this side's own entries."""
        return [self.item(each) for each in step]

    def item(self, each: Any) -> Item:
        """One request."""
        if isinstance(each, Making):
            return self.trial.decision(
                *each.arms, x=(ONE, each.x), caller=each.name, user=each.user, deferred=each.deferred,
                window_ms=SHORT if each.short else HOUR,
            )  # fmt: skip
        if isinstance(each, Showing):
            return Activate(self.ref(each.target))
        kinds = len(self.trial.experiment.kinds)
        ref = self.ref(each.target)
        return self.trial.reward(ref, each.credit, each.kind % kinds, each.event, self.arm(ref, each.arm), each.of)

    def arm(self, ref: Ref, named: int | str | None) -> int:
        """The index of the arm that feedback names."""
        if named is None:
            return NO_ARM
        shown = self.shown.get(ref, (0, 1))
        return shown[named % len(shown)] if isinstance(named, int) else 3

    def ref(self, target: int | str) -> Ref:
        """What a request refers to."""
        if isinstance(target, int):
            return self.refs[-1 - target % len(self.refs)] if self.refs else Ref(caller=b"nobody")
        if target == "forged":
            return self.refs[0]._replace(nonce=b"forged!!") if self.refs and self.refs[0].entry else Ref(caller=b"f")
        return user(target[2:]) if target.startswith("u:") else Ref(caller=target.encode())

    def send(self, step: list[Any]) -> None:
        """Send a batch and take its replies into account."""
        items, end = self.items(step), self.trial.store.end(self.trial.name)
        results = self.trial.send(*items)
        new = self.trial.store.read(self.trial.name, end, 10_000)
        credited = iter([unpack_feedback(entry.record) for entry in new if entry.tag == b"f"])
        for item, result in zip(items, results, strict=True):
            self.replies.append(self.plain(result))
            if isinstance(item, Decide) and isinstance(result, Logged) and not result.record:
                self.decided[result.position] = len(self.decided), item
                self.refs.append(self.trial.ref(item, result))
                self.shown[self.refs[-1]] = unpack_decision(item.record).arms
                if item.window_ms == SHORT:
                    self.short.append(result.position)
                if not unpack_decision(item.record).head.flags & 1:
                    self.active.add(result.position)
            for judged in result if isinstance(result, list) else [result]:
                self.account(item, judged, credited)

    def account(self, item: Item, judged: Result, entries: Iterator[Feedback]) -> None:
        """What an accepted reply says of the sums; of a refund by user only the log has the arm."""
        if not isinstance(judged, Outcome) or judged.status not in ("accepted", "activated"):
            return
        back = isinstance(item, Reward) and item.refund_of
        if judged.status == "activated" or (self.trial.experiment.document.activation != "explicit" and not back):
            self.active.add(judged.position)
        if judged.status == "accepted" and isinstance(item, Reward):
            shown, entry = unpack_decision(self.decided[judged.position][1].record).arms, next(entries)
            arm = entry.arm if back else shown[0] if item.arm == NO_ARM else item.arm
            self.credited[judged.position, arm][item.kind] += judged.credited

    def plain(self, result: Result) -> Any:
        """A reply with decisions by their order instead of by their entries."""
        if isinstance(result, list):
            return [self.plain(each) for each in result]
        order = self.order(result.position)
        return ("logged", order, result.record) if isinstance(result, Logged) else result._replace(position=order)

    def order(self, position: Position) -> int | None:
        """The number of a decision in the order of the log."""
        return self.decided[position][0] if position in self.decided else None

    def entries(self) -> Iterator[Any]:
        """The log with decisions by their order."""
        for entry in self.log():
            if entry.tag == b"f":
                feedback = unpack_feedback(entry.record)
                yield feedback._replace(decision=self.order(feedback.decision))
            elif entry.tag == b"a":
                activation = unpack_activation(entry.record)
                yield activation._replace(decision=self.order(activation.decision))
            else:
                yield Entry(Position(0, 0), entry.tag, entry.record.replace(self.trial.name.encode(), b"NAME"))

    def log(self) -> list[Entry]:
        """Every entry that there ever was."""
        return self.gone + self.trial.log()

    def trim(self) -> None:
        """Drop the older half, more than a server would: windows may be open."""
        entries = self.trial.log()
        if len(entries) > 1:
            half = len(entries) // 2
            self.gone += entries[:half]
            self.trial.trim(entries[half].position)

    def told(self) -> Seen:
        """The sums of this generation, from the replies alone."""
        K, m, d = self.trial.experiment.shape
        A, B = np.zeros((K, d, d), object), np.zeros((K, m, d), object)
        R, n = np.zeros((K, m, m), object), np.zeros(K, object)
        for position, (_, item) in self.decided.items():
            decision = unpack_decision(item.record)
            if decision.head.generation != self.trial.config.generation or position not in self.active:
                continue
            x = np.frombuffer(decision.x, "<i2").astype(object)
            for arm in decision.arms:
                r = np.zeros(m, object)
                r[: decision.head.m] = self.trial.experiment.defaults[: decision.head.m]
                for kind, total in self.credited[position, arm].items():
                    r[kind] += total
                A[arm], n[arm] = A[arm] + np.outer(x, x), n[arm] + 1
                B[arm], R[arm] = B[arm] + np.outer(r, x), R[arm] + np.outer(r, r)
        return {arm: (A[arm].tolist(), B[arm].tolist(), R[arm].tolist(), n[arm]) for arm in range(K)}

    def folded(self) -> Sums:
        """The sums of this generation, as a server folds them."""
        K, m, d = self.trial.experiment.shape
        sums = Sums.zeros(K, m, d)
        generation, defaults = self.trial.config.generation, self.trial.experiment.defaults
        sums.add(*increments(read_events(self.log(), generation, defaults, m, d).events))
        return sums


class Both:
    """A history on two stores at once."""

    def __init__(self, real: Store, grace_ms: int) -> None:
        self.now = 1e9
        name = "h" + uuid4().hex
        self.sides = [Side(real, name, grace_ms), Side(MemoryStore(lambda: self.now), name, grace_ms)]
        self.batches = 0

    def run(self, step: list[Any] | Changing) -> None:
        """One step; then the clocks go on until short windows have passed, and grace periods of 0 with them."""
        if isinstance(step, Changing):
            self.change(step.what)
        else:
            self.batches += 1
            for side in self.sides:
                side.send(step)
        real = self.sides[0]
        if real.short:
            past(real.trial.store, real.short[-1].ms + SHORT + 10)  # a user's events: from when the script looked on
            self.now += (SHORT + 10) / 1000  # as far: under "no refunds" an event may be taken back for 1 ms more
            real.short.clear()

    def change(self, what: str) -> None:
        """Change both experiments, or misuse both."""
        for side in self.sides:
            trial = side.trial
            if what in ("repeat", "gap", "stale"):
                self.misuse(side, what)
            elif what == "kind":
                known = len(trial.experiment.kinds)
                trial.change(rewards={f"k{i}": kind for i, kind in enumerate(KINDS[: known + 1])})
            elif what in ("explicit", "on_decision"):
                trial.change(activation=what)
            elif what == "reset":
                trial.change(reset=True)
            elif what == "trim":
                side.trim()
            elif what == "no refunds":
                trial.change(refunds=0.001)
            else:
                trial.change(attribution=what)

    @staticmethod
    def misuse(side: Side, what: str) -> None:
        """An old number, one too far, and an old schema: nothing of these is written."""
        trial, old = side.trial, trial_before(side.trial)
        sequence = {"repeat": trial.sequence - 1, "gap": trial.sequence + 1, "stale": trial.sequence}[what]
        if what == "repeat" and sequence == 0:
            return
        reply = trial.store.append(trial.name, trial.batch(trial.decision(), sequence=sequence)._replace(rules=old))
        if what == "repeat":
            assert isinstance(reply, list)
            side.replies.append([side.plain(each) for each in reply])
        else:
            side.replies.append(reply)
        if what == "stale":
            assert reply == Stale()


def trial_before(trial: Trial) -> Any:
    """Rules of a schema that the store no longer has."""
    return trial.batch().rules._replace(schema=trial.config.schema - 1)


def test_histories_have_every_aggregation() -> None:
    """One that the script and the store in memory were not compared for could be judged in two ways."""
    assert {kind["aggregation"] for kind in KINDS} == set(get_args(Aggregation))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=start, history=history, grace_ms=st.sampled_from([0, DAY]))
def test_a_history_means_the_same_in_every_store(url: str, start: list[Any], history: list[Any], grace_ms: int) -> None:
    """Replies, log and sums of any history of decisions, feedback, activations and changes."""
    real = RedisStore(url)
    try:
        both = Both(real, grace_ms)
        for step in [start, *history]:
            both.run(step)
            assert both.sides[0].replies == both.sides[1].replies
        assert list(both.sides[0].entries()) == list(both.sides[1].entries())
        for side in both.sides:
            assert exact(side.folded()) == side.told() == slow_sums(side.log(), side.trial.experiment)
    finally:
        real.close()
