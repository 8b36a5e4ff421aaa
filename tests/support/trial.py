"""An experiment on a store, written to by hand, and what its log means, worked out the slow way."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from bandit.core.document import Document
from bandit.core.experiment import Config, Experiment, compile_config
from bandit.core.revision import first, revise
from bandit.core.sums import ONE, Sums
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import (
    DEFERRED,
    FORMAT,
    PENDING,
    SPARSE,
    START,
    USER,
    Entry,
    Head,
    Position,
    pack_decision,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
)
from bandit.log.vectors import pack_x
from bandit.store.protocol import (
    NO_ARM,
    Activate,
    Batch,
    Decide,
    Gap,
    Item,
    Logged,
    Outcome,
    Ref,
    Result,
    Reward,
    Stale,
    Store,
)
from bandit.store.protocol import rules_of as rules

HOUR, DAY = 3_600_000, 86_400_000
DOCUMENT: dict[str, Any] = {
    "features": [{"name": "age", "type": "number", "mean": 0, "scale": 1}],
    "arms": ["a", "b", "c", "d"],
    "rewards": {"click": {}, "sale": {"range": [-50, 50], "unit": 1}},
}
CLICK, SALE = 0, 1
FULL = 1_000_000  # credits of a click of 1: its unit is a millionth


def document(**fields: Any) -> Document:
    """The document above with other fields."""
    return msgspec.convert(DOCUMENT | fields, Document)


class Trial:
    """One experiment, and one producer that writes to its log."""

    def __init__(self, store: Store, name: str, grace_ms: int = DAY, **fields: Any) -> None:
        self.store, self.name, self.grace_ms = store, name, grace_ms
        self.producer, self.sequence, self.nonces = f"producer-of-{name}", 1, 0
        if (stored := store.config(name)) is not None:  # it is there: another producer
            self.producer, config = self.producer + "-now", stored.config
        else:
            config = first(name, document(**fields))
            assert store.put(config, None) is not None
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Write by this config from now on."""
        self.config, self.experiment = config, compile_config(config)

    def change(self, *, reset: bool = False, **fields: Any) -> Experiment:
        """Store and log a change of some of the document's fields; the experiment before it."""
        stored, before = self.store.config(self.name), self.experiment
        assert stored is not None
        now = msgspec.to_builtins(stored.config.document)
        config = revise(stored.config, msgspec.convert(now | fields, Document), learned=stored.learned, reset=reset)
        assert self.store.put(config, stored) is not None
        self.adopt(config)
        return before

    def delete(self) -> None:
        """Store and log its deletion."""
        stored = self.store.config(self.name)
        assert stored is not None
        gone = msgspec.structs.replace(stored.config, version=stored.config.version + 1, deleted=True)
        assert self.store.put(gone, stored) is not None

    # writing

    def batch(self, *items: Item, sequence: int | None = None, experiment: Experiment | None = None) -> Batch:
        """A batch under the next number, or another."""
        known = rules(experiment or self.experiment, self.grace_ms)
        return Batch(self.producer, self.sequence if sequence is None else sequence, known, items)

    def send(self, *items: Item) -> list[Result]:
        """Append the next batch, which the store takes."""
        reply = self.store.append(self.name, self.batch(*items))
        assert not isinstance(reply, Stale | Gap), reply
        self.sequence += 1
        return reply

    def decision(
        self,
        *arms: int,
        x: tuple[int, ...] = (ONE, 100),
        caller: str = "",
        user: str = "",
        deferred: bool = False,
        window_ms: int = HOUR,
        experiment: Experiment | None = None,
    ) -> Decide:
        """A decision that shows these arms, or the first."""
        made, arms = experiment or self.experiment, arms or (0,)
        K, m, _ = made.shape
        self.nonces += 1
        ((data, sparse),) = pack_x(np.array([x], np.int16), made.layout)
        hashed = user.encode().rjust(16, b"-") if user else b""
        flags = sparse | DEFERRED * deferred | USER * bool(user)
        sizes = len(arms), len(data), len(caller.encode())
        versions = made.config.generation, made.config.schema, made.config.version
        nonce = self.nonces.to_bytes(8, "big")
        head = Head(FORMAT, flags, m, 0, *sizes, *versions, window_ms, nonce, bytes(8), 0.5, *START)
        tail = pack_probabilities(np.full(K, 1 / K), np.ones(K, bool))
        shown = [(arm, 1 / K, 1 / K) for arm in arms]
        return Decide(
            pack_decision(head, data, caller.encode(), hashed, shown, tail), caller.encode(), hashed, window_ms
        )

    def decide(self, *arms: int, **how: Any) -> Ref:
        """Log a decision; what feedback on it refers to."""
        return self.ref(decision := self.decision(*arms, **how), self.send(decision)[0])

    @staticmethod
    def ref(decision: Decide, logged: Result) -> Ref:
        """What feedback on a logged decision refers to: its caller's name, or the server's."""
        assert isinstance(logged, Logged), logged
        if decision.caller:
            return Ref(caller=decision.caller)
        return Ref(entry=logged.position.text(), nonce=unpack_decision(decision.record).head.nonce)

    def reward(
        self, ref: Ref, credit: int, kind: int = SALE, event: str | None = None, arm: int = NO_ARM, of: str = ""
    ) -> Reward:
        """Feedback, or a refund of an event; without an event id it has the kind's name, or none under `last`."""
        last = self.experiment.kinds[kind].aggregation == "last"
        default = "" if last else self.config.kinds[kind]
        name = default if event is None else event
        return Reward(ref, kind, credit, name.encode(), event is not None, arm, of.encode())

    def feed(self, ref: Ref, credit: int, kind: int = SALE, event: str | None = None, arm: int = NO_ARM) -> Outcome:
        """Send feedback on one decision; what became of it."""
        (found,) = self.send(self.reward(ref, credit, kind, event, arm))
        assert isinstance(found, Outcome), found
        return found

    def refund(self, ref: Ref, event: str, of: str, credit: int = 0, kind: int = SALE, arm: int = NO_ARM) -> Outcome:
        """Take back of an event, all that is left unless told how much; what became of it."""
        (found,) = self.send(self.reward(ref, credit, kind, event, arm, of))
        assert isinstance(found, Outcome), found
        return found

    def activate(self, ref: Ref) -> str:
        """Send an activation; what became of it."""
        (found,) = self.send(Activate(ref))
        assert isinstance(found, Outcome), found
        return found.status

    # reading

    def log(self) -> list[Entry]:
        """Every entry there is."""
        return self.store.read(self.name, START, 1_000_000)

    def tags(self) -> str:
        """What the entries are, in order, without changes of the experiment."""
        return b"".join(entry.tag for entry in self.log() if entry.tag != b"x").decode()

    def slow(self, entries: Iterable[Entry] | None = None) -> "Seen":
        """What the entries (all there are) mean for the sums of this generation."""
        return slow_sums(self.log() if entries is None else entries, self.experiment)

    def trim(self, cut: Position) -> None:
        """Drop the entries before one, whatever may still be said of them; the sums of what goes are not kept."""
        before = [entry.position for entry in self.log() if entry.position < cut]
        token = self.lease()
        assert self.store.write_rows(self.name, "sums", token, [], cut)
        assert self.store.write_rows(self.name, "base", token, [], before[-1])
        assert self.store.trim(self.name, token, cut, b"")

    def lease(self, holder: bytes = b"test") -> bytes:
        """Take the lease, from whoever has it."""
        token = self.store.take_lease(self.name, self.store.lease(self.name), holder)
        assert token is not None
        return token


class Watched:
    """A store that tells of each call before it is made and after: to fail there, or to do something in between."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.before: Callable[[str, tuple[Any, ...]], None] = lambda method, args: None
        self.after: Callable[[str, tuple[Any, ...]], None] = lambda method, args: None

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.before(method, args)
            result = getattr(self.store, method)(*args, **kwargs)
            result = iter(list(result)) if isinstance(result, Iterator) else result
            self.after(method, args)
            return result

        return call


class Killed(BaseException):
    """The process was killed here."""


def user(name: str) -> Ref:
    """A reference to a user's decisions."""
    return Ref(user=name.encode().rjust(16, b"-"))


def at(ref: Ref) -> Position:
    """The entry that a server's own id names."""
    return Position.parse(ref.entry)


Seen = dict[int, tuple[list[list[int]], list[list[int]], list[list[int]], int]]  # arm: A, B, R, n


def slow_sums(entries: Iterable[Entry], experiment: Experiment) -> Seen:
    """A, B, R and n of every arm in whole numbers of Python, an event at a time: the rules of the fold in words."""
    K, m, d = experiment.shape
    seen: Seen = {arm: ([[0] * d for _ in range(d)], [[0] * d for _ in range(m)], [[0] * m for _ in range(m)], 0)
                  for arm in range(K)}  # fmt: skip

    def add(arm: int, x: list[int], shown: bool, old: list[int], new: list[int]) -> None:
        A, B, R, n = seen[arm]
        for i in range(d):
            for j in range(d):
                A[i][j] += x[i] * x[j] * shown
        for k in range(m):
            for i in range(d):
                B[k][i] += (new[k] - old[k]) * x[i]
            for other in range(m):
                R[k][other] += new[k] * new[other] - old[k] * old[other]
        seen[arm] = A, B, R, n + shown

    def wide(credits_: Iterable[int]) -> list[int]:
        return [*credits_, *[0] * m][:m]

    for entry in entries:
        if entry.tag == b"d":
            decision = unpack_decision(entry.record)
            if decision.head.generation == experiment.config.generation and not decision.head.flags & DEFERRED:
                for arm in decision.arms:
                    start = wide(experiment.defaults[: decision.head.m])
                    add(arm, _x(decision.x, decision.head.flags, d), True, [0] * m, start)
        elif entry.tag == b"a":
            activation = unpack_activation(entry.record)
            if activation.generation == experiment.config.generation:
                for arm, credits_ in zip(activation.arms, activation.credits, strict=True):
                    add(arm, _x(activation.x, activation.flags, d), True, [0] * m, wide(credits_))
        elif entry.tag == b"f":
            feedback = unpack_feedback(entry.record)
            if feedback.generation == experiment.config.generation and not feedback.flags & PENDING:
                x = _x(feedback.x, feedback.flags, d)
                add(feedback.arm, x, False, wide(feedback.old), wide(feedback.new))
    return seen


def _x(data: bytes, flags: int, d: int) -> list[int]:
    """A record's feature vector."""
    words = [int.from_bytes(data[i : i + 2], "little", signed=True) for i in range(0, len(data), 2)]
    if not flags & SPARSE:
        return words
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    return [pairs.get(i, 0) for i in range(d)]


def exact(sums: Sums) -> Seen:
    """Sums as whole numbers of Python."""
    R = (sums.R[..., 0].astype(object) << 62) + sums.R[..., 1].astype(object)
    parts = zip(sums.A.tolist(), sums.B.tolist(), R.tolist(), sums.n.tolist(), strict=True)
    return dict(enumerate(parts))


def until(true: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """The first true value, or an error that says what did not come."""
    limit = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < limit, f"{what} did not come within {seconds} s"
        time.sleep(0.002)
    return value


def past(store: Store, ms: int) -> None:
    """Wait until the store's clock is past a time."""
    until(lambda: store.now_ms() > ms, "that time of the store's clock")


class Clock:
    """A clock that is set by hand, in milliseconds."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> float:
        """Seconds."""
        return self.ms / 1000
