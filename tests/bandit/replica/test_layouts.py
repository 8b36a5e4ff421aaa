"""Columns that come and go under what was learned: any history of them, and the log of a version without such.

The oracle keeps of each decision what its context said, column by column under names of its own, and never reads x from
a record: so how columns are numbered, packed, padded and dropped is all that is tested.
"""

import base64
import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import redis
from conftest import opened, served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import SALE, Trial, exact, past

from bandit.core.sums import ONE
from bandit.log.records import Position
from bandit.replica import trim
from bandit.replica.checkpoint import BEAT, Checkpointer
from bandit.replica.replica import Replica
from bandit.replica.verify import verify
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Outcome, Ref

WINDOW = 40  # ms
ARMS = 3
Column = tuple[str, int, str]  # feature, which of its lives, part


class Decided(NamedTuple):
    """What the oracle knows of a decision."""

    arm: int
    said: dict[Column, int]
    kinds: int
    deferred: bool


class World:
    """An experiment whose features change, the servers that follow it, and the sums that they should have."""

    def __init__(self, trial: Trial, wait: Callable[[Position], None]) -> None:
        self.trial, self.wait = trial, wait
        self.features: dict[str, dict[str, Any]] = {}
        self.columns: list[Column] = []  # present ones, in the order in which they came
        self.lives: dict[str, int] = defaultdict(int)
        self.known: dict[str, Column] = {}  # of features that came later, the constant
        self.decided: dict[Position, Decided] = {}
        self.refs: list[Ref] = []
        self.active: set[Position] = set()
        self.credited: dict[Position, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.servers = [self.server(b"0"), self.server(b"1")]
        self.now = 0.0

    def server(self, holder: bytes) -> tuple[Replica, Checkpointer]:
        """One that starts now."""
        replica = Replica(self.trial.name, self.trial.store)
        replica.load()
        replica.catch_up()
        return replica, Checkpointer(replica, self.trial.store, holder, lease_seconds=0.5, seconds=0.0)

    # what may happen

    def change(self, features: list[dict[str, Any]]) -> None:
        """Other features, whose columns the oracle names by the life that they are of."""
        new = {feature["name"]: feature for feature in features}
        for name in self.features.keys() - new.keys():
            self.columns = [column for column in self.columns if column[0] != name]
            del self.known[name]
        self.columns = [column for column in self.columns if column[0] != "" or column in self.known.values()]
        late = []
        for name, feature in new.items():
            if name not in self.features:
                self.lives[name] += 1
                self.known[name] = (name, self.lives[name], "nothing")
                late += [name] * (feature["type"] != "category")
            own = [(name, self.lives[name], part) for part in parts(feature)]
            self.columns += [column for column in own if column not in self.columns]
        if late:
            self.lives[""] += 1
            self.columns.append(constant := ("", self.lives[""], ""))
            self.known |= dict.fromkeys(late, constant)
        self.features = new
        self.trial.change(features=features)

    def decide(self, arm: int, values: list[int], deferred: bool) -> None:
        """One decision on a context of these values."""
        context, said = {}, {("", 0, ""): ONE} | {column: ONE // 2 for column in self.known.values() if not column[0]}
        for (name, feature), value in zip(self.features.items(), values, strict=False):
            life = self.lives[name]
            if feature["type"] == "category":
                levels = [*feature["levels"], "other"]
                context[name] = levels[value % len(levels)]
                said[name, life, context[name]] = ONE
            elif feature["type"] == "boolean":
                context[name] = bool(value % 2)
                said[name, life, ""] = ONE * (value % 2)
            else:
                context[name] = value / ONE
                said[name, life, ""] = value
        encoder = self.trial.experiment.encoder
        (x,) = encoder.encode([msgspec.convert(context, encoder.context_type)]).tolist()
        item = self.trial.decision(arm, x=tuple(x), deferred=deferred, window_ms=WINDOW)
        (logged,) = self.trial.send(item)
        self.refs.append(self.trial.ref(item, logged))
        kinds = len(self.trial.experiment.kinds)
        self.decided[logged.position] = Decided(arm, said, kinds, deferred)  # type: ignore[union-attr]
        if not deferred:
            self.active.add(logged.position)  # type: ignore[union-attr]

    def feed(self, which: int, credit: int) -> None:
        """Feedback on a decision, counted back from the newest."""
        if self.refs:
            found = self.trial.feed(self.refs[-1 - which % len(self.refs)], credit, SALE, f"e{self.trial.sequence}")
            self.account(found)

    def account(self, found: Outcome) -> None:
        """What an answer tells of the sums."""
        if found.status in ("accepted", "activated"):
            self.active.add(found.position)
            self.credited[found.position][SALE] += found.credited

    def show(self, which: int) -> None:
        """Activate a decision."""
        if self.refs and self.trial.activate(ref := self.refs[-1 - which % len(self.refs)]) == "activated":
            self.active.add(Position.parse(ref.entry))

    def rewards(self, high: int, aggregation: str) -> None:
        """A wider range, or another aggregation."""
        now = self.trial.experiment.kinds[SALE].range[1]
        sale = {"range": [-50, max(now, high)], "unit": 1, "aggregation": aggregation}
        self.trial.change(rewards={"click": {"default": 0.5}, "sale": sale})

    def step(self, which: int, count: int) -> None:
        """A server reads so many entries, beats, and writes a checkpoint where it holds the lease."""
        replica, checkpointer = self.servers[which]
        replica.step(count)
        self.now += BEAT
        found = self.trial.store.attend({self.trial.name: checkpointer.token})
        checkpointer.heard(found[self.trial.name], self.now)
        checkpointer.step(self.now)

    def restart(self, which: int) -> None:
        """Kill a server and start another."""
        self.servers[which] = self.server(b"%d" % self.trial.sequence)

    def cut(self) -> None:
        """Let checkpoints be written and windows pass, and trim."""
        for which in (0, 1, 0, 1):
            self.step(which, 1000)
        self.wait(self.trial.store.end(self.trial.name))
        for replica, checkpointer in self.servers:
            store, name = self.trial.store, self.trial.name
            if checkpointer.token and replica.model and replica.position >= store.cursor(name, "sums"):
                trim.trim(store, name, checkpointer.token, replica.model.experiment, 0)

    # what must be so

    def told(self) -> Any:
        """The sums, from what contexts said and what the answers credited."""
        names, m = [("", 0, ""), *self.columns], len(self.trial.experiment.kinds)
        A, B = np.zeros((ARMS, len(names), len(names)), object), np.zeros((ARMS, m, len(names)), object)
        R, n = np.zeros((ARMS, m, m), object), np.zeros(ARMS, object)
        for position in self.active:
            made = self.decided[position]
            x = np.array([made.said.get(name, 0) for name in names], object)
            r = np.array([self.trial.experiment.defaults[0], 0], object)
            for kind, credit in self.credited[position].items():
                r[kind] += credit
            A[made.arm] += np.outer(x, x)
            B[made.arm] += np.outer(r, x)
            R[made.arm] += np.outer(r, r)
            n[made.arm] += 1
        return {arm: (A[arm].tolist(), B[arm].tolist(), R[arm].tolist(), n[arm]) for arm in range(ARMS)}

    def check(self) -> None:
        """Servers of any age, and the checkpoints against the log."""
        told = self.told()
        for replica, checkpointer in [*self.servers, self.server(b"new")]:
            while replica.step():
                pass
            assert replica.model is not None
            assert exact(replica.model.sums) == told
            if checkpointer.token:
                checkpointer.step(self.now, last=True)
        assert verify(self.trial.store, self.trial.name, batch=7)["equal"]
        rest = self.server(b"rest")[0].model
        assert rest is not None
        assert exact(rest.sums) == told


def parts(feature: dict[str, Any]) -> list[str]:
    """The columns of a feature."""
    return [*feature["levels"], "other"] if feature["type"] == "category" else [""]


def features(present: list[str], levels: int) -> list[dict[str, Any]]:
    """Features by their letters, in this order: number, boolean, category of so many levels."""
    return [
        {"n": {"name": name, "type": "number", "mean": 0, "scale": 1}, "b": {"name": name, "type": "boolean"}}.get(
            name[0]
        )
        or {"name": name, "type": "category", "levels": [f"l{i}" for i in range(levels)]}
        for name in present
    ]


present = st.lists(st.sampled_from(["n1", "n2", "b1", "c1"]), unique=True)
step = st.one_of(
    st.tuples(st.just("change"), present),
    st.tuples(
        st.just("decide"), st.integers(0, 2), st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.booleans()
    ),
    st.tuples(st.just("feed"), st.integers(0, 5), st.integers(-9, 9)),
    st.tuples(st.just("show"), st.integers(0, 5)),
    st.tuples(st.just("rewards"), st.integers(50, 90), st.sampled_from(["sum", "first", "last"])),
    st.tuples(st.just("step"), st.integers(0, 1), st.integers(1, 5)),
    st.tuples(st.just("restart"), st.integers(0, 1)),
    st.tuples(st.just("cut")),
)
decide, change = (st.tuples(st.just(name), *rest) for name, *rest in (
    ("decide", st.integers(0, 2), st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.booleans()),
    ("change", present),
))  # fmt: skip
history = st.lists(st.one_of(step, step, decide, decide, change), min_size=12, max_size=40)


def run(world: World, steps: list[Any]) -> None:
    """Each step, then the check; a category has a level more at each change, as long as it is there."""
    levels = 0
    for what, *rest in steps:
        if what == "change":
            levels += 1
            world.change(features(rest[0], levels))
        else:
            getattr(world, what)(*rest)
    world.check()


def started(store: Any, name: str, wait: Callable[[Position], None]) -> World:
    """A world with decisions before any feature."""
    rewards = {"click": {"default": 0.5}, "sale": {"range": [-50, 50], "unit": 1}}
    return World(Trial(store, name, grace_ms=0, features=[], arms=["a", "b", "c"], rewards=rewards), wait)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(history)
def test_any_history_of_columns_is_what_contexts_said(steps: list[Any]) -> None:
    """Features and levels that come, go and come back, and rewards that change, between decisions, late feedback,
    activations, checkpoints, restarts and trims, folded in any batches.
    """
    clock = [1e9]

    def wait(_: Position) -> None:
        clock[0] += 2 * WINDOW / 1000

    run(started(MemoryStore(lambda: clock[0]), "memory", wait), steps)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(step, decide, change), min_size=6, max_size=20))
def test_the_real_store_has_the_same_history(valkey: str, steps: list[Any]) -> None:
    """A shorter one of the same."""
    with opened(valkey) as store:
        name = f"layouts{store.now_ms()}"
        run(started(store, name, lambda end: past(store, end.ms + WINDOW)), steps)


OLD = Path(__file__).parents[2] / "data/logs/one-layout.json.gz"


def test_a_store_from_before_there_were_layouts_verifies_and_goes_on() -> None:
    """Every key of an experiment as commit 8ef99bf left it: rows, base, a trimmed log with lists of kinds, dense and
    sparse x. Its sums are those that that commit had, and stay when a feature comes and goes.
    """
    old = json.loads(gzip.decompress(OLD.read_bytes()))
    with served() as url, redis.Redis.from_url(url) as raw, opened(url) as store:
        for key, (kind, value) in old["keys"].items():
            restored(raw, key, kind, value)
        assert verify(store, "shop") == old["verified"]
        model = _loaded(store).model
        assert model is not None
        assert model.sums.digest() == old["digest"]
        trial = Trial(store, "shop", grace_ms=0)
        before = msgspec.to_builtins(trial.config.document.features)
        trial.change(features=[*before, {"name": "size", "type": "category", "levels": ["s"]}])
        d = trial.experiment.shape[2]
        trial.feed(trial.decide(0, x=(ONE, *[7] * (d - 1)), window_ms=60_000), 9)
        trial.change(features=before)
        assert verify(store, "shop")["equal"]
        now = _loaded(store)
        assert now.model is not None
        assert exact(now.model.sums)[1] == exact(model.sums)[1]
        assert now.model.sums.n.sum() == model.sums.n.sum() + 1


def _loaded(store: Any) -> Replica:
    replica = Replica("shop", store)
    replica.load()
    replica.catch_up()
    return replica


def restored(raw: Any, key: str, kind: str, value: Any) -> None:
    """Write a key as it was."""
    if kind == "stream":
        for entry, tag, record in value:
            raw.xadd(key, {base64.b64decode(tag): base64.b64decode(record)}, entry)
    elif kind == "hash":
        raw.hset(key, mapping={base64.b64decode(name): base64.b64decode(each) for name, each in value.items()})
    elif kind == "set":
        raw.sadd(key, *map(base64.b64decode, value))
    else:
        raw.set(key, base64.b64decode(value))
