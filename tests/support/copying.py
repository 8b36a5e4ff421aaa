"""An experiment that is written to while it is copied, and whether a copy knows what was acknowledged."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from trial import HOUR, SALE, Trial, user

from bandit.log.records import Position
from bandit.replica.replica import Replica
from bandit.replica.trim import trim
from bandit.store.protocol import Logged, Outcome, Ref, Store
from bandit.store.redis_store import RedisStore


@dataclass
class Round:
    """What one round of a writer was told: of a decision that its caller names, one that it does not, and a user's."""

    number: str
    own: Ref
    own_at: Position
    server: Ref
    user: str
    last: Position


@dataclass
class Writer:
    """One client of an experiment, with a producer of its own."""

    trial: Trial
    label: str
    window_ms: int = HOUR
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trial.producer, self.trial.sequence = f"{self.trial.producer}-{self.label}", 1
        self.trial.nonces = 1_000_000 * (1 + ord(self.label))

    def write(self) -> None:
        """Decisions, events and a refund; all of it is acknowledged when it is noted."""
        number, trial = f"{self.label}{len(self.rounds)}", self.trial
        who = f"u{number}"
        own = trial.decision(1, caller=f"c{number}", user=who, window_ms=self.window_ms)
        server = trial.decision(2, window_ms=self.window_ms)
        logged, other = trial.send(own, server)
        assert isinstance(logged, Logged)
        refs = trial.ref(own, logged), trial.ref(server, other)
        told = trial.send(
            trial.reward(refs[0], 5, SALE, f"e{number}"),
            trial.reward(refs[1], 6, SALE, f"s{number}"),
            trial.reward(refs[1], 7, SALE, f"t{number}"),
            trial.reward(user(who), 3, SALE, f"w{number}"),
            trial.reward(refs[0], 2, SALE, f"r{number}", of=f"e{number}"),
        )
        assert [each.status for each in told if isinstance(each, Outcome)] == ["accepted"] * 5
        self.rounds.append(Round(number, refs[0], logged.position, refs[1], who, trial.store.end(trial.name)))


@contextmanager
def written_to(url: str, name: str, writers: int = 2, **fields: object) -> Iterator[list[Writer]]:
    """An experiment that so many threads write to meanwhile, while another checkpoints and trims it."""
    stopping, failed = threading.Event(), list[BaseException]()
    with ExitStack() as stack:

        def opened() -> RedisStore:
            stack.callback((store := RedisStore(url, 20)).close)
            return store

        Trial(opened(), name, refunds="2h", **fields)
        made = [Writer(Trial(opened(), name), chr(ord("a") + i)) for i in range(writers)]

        def run(writer: Writer) -> None:
            try:
                while not stopping.is_set():
                    writer.write()
            except BaseException as error:
                failed.append(error)
                raise

        def keep(store: RedisStore) -> None:
            while not stopping.is_set():
                checkpointed(store, name)

        threads = [threading.Thread(target=run, args=(writer,)) for writer in made]
        threads.append(threading.Thread(target=keep, args=(opened(),)))
        for thread in threads:
            thread.start()
        try:
            yield made
        finally:
            stopping.set()
            for thread in threads:
                thread.join(60)
            assert not failed


def checkpointed(store: Store, name: str, grace_ms: int = 0) -> int:
    """Write every arm's checkpoint at the log's end, then trim as far as it goes: how many entries went."""
    replica, trial = Replica(name, store), Trial(store, name)
    replica.load()
    replica.catch_up()
    token, gone = trial.lease(), 0
    rows = [replica.row(arm) for arm in range(replica.shape[0])]
    assert store.write_rows(name, "sums", token, rows, replica.position)
    while more := trim(store, name, token, trial.experiment, grace_ms):
        gone += more
    return gone


def knows(trial: Trial, told: Round) -> None:
    """Everything of a round is found, and each of its events is a repeat; what was not taken back still can be."""
    again = trial.send(trial.decision(1, caller=f"c{told.number}", user=told.user))[0]
    assert isinstance(again, Logged)
    assert (again.position, bool(again.record)) == (told.own_at, True)
    n = told.number
    repeats = trial.send(
        trial.reward(told.own, 5, SALE, f"e{n}"),
        trial.reward(told.server, 6, SALE, f"s{n}"),
        trial.reward(told.server, 7, SALE, f"t{n}"),
        trial.reward(user(told.user), 3, SALE, f"w{n}"),
        trial.reward(user(told.user), 3, SALE, f"e{n}"),
        trial.reward(told.own, 2, SALE, f"r{n}", of=f"e{n}"),
        trial.reward(told.own, 4, SALE, f"q{n}", of=f"e{n}"),
        trial.reward(user(told.user), 3, SALE, f"q{n}", of=f"w{n}"),
        trial.reward(told.server, 0, SALE, f"q{n}", of=f"t{n}"),
        trial.reward(user(told.user), 1, SALE, f"x{n}"),
    )
    assert all(isinstance(each, Outcome) for each in repeats)
    statuses = [each.status for each in repeats if isinstance(each, Outcome)]
    assert statuses == ["duplicate"] * 6 + ["left", "accepted", "accepted", "accepted"], (n, statuses)


def knows_nothing_of(trial: Trial, told: Round) -> None:
    """The round never was: its decisions are unknown, and its caller's name is free."""
    n = told.number
    unknown = trial.send(
        trial.reward(told.own, 5, SALE, f"e{n}"),
        trial.reward(told.server, 6, SALE, f"s{n}"),
        trial.reward(user(told.user), 3, SALE, f"w{n}"),
    )
    assert [each.status for each in unknown if isinstance(each, Outcome)] == ["unknown"] * 3
    again = trial.send(trial.decision(1, caller=f"c{n}", user=told.user))[0]
    assert isinstance(again, Logged)
    assert not again.record
    assert trial.feed(told.own, 5, SALE, f"e{n}").status == "accepted"
