"""How long after an entry is in the log every decision of this server reflects it: log, fold and refresh together.

A real store, one follower in this process, and another process that appends at a steady rate: a batch of decisions,
one for each arm, and feedback on each, so that all arms change at once. An entry is fresh when the replica's `scored`
has passed it; that is looked at every millisecond.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from bandit import embedded
from bandit.datadir import lock
from bandit.experiment import Document, Experiment, compile_config, first
from bandit.follower import Follower
from bandit.log import FORMAT, START, Head, Position, pack_decision, pack_probabilities, pack_x
from bandit.redis_store import RedisStore
from bandit.replica import Replica
from bandit.store import NO_ARM, Batch, Decide, Item, Logged, Ref, Reward, rules_of
from bandit.sums import ONE

NAME = "freshness"
TARGET_MS = 100.0
LOOK = 0.001  # seconds between two looks at what is scored
WARM_UP = 2.0  # seconds that are not counted


class Appended(NamedTuple):
    """The last entry of a batch, and when the store had answered it (monotonic)."""

    position: tuple[int, int]
    answered: float


def experiment(arms: int, features: int) -> Experiment:
    """So many arms and number features, an intercept among them."""
    document = {
        "arms": [f"arm-{i}" for i in range(arms)],
        "features": [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(features - 1)],
        "rewards": {"click": {}},
    }
    return compile_config(first(NAME, msgspec.convert(document, Document)))


def decisions(made: Experiment, batch: int) -> list[Decide]:
    """A decision for each arm, named by the caller so that feedback in the same batch can refer to it."""
    K, m, d = made.shape
    rng = np.random.default_rng(batch)
    x = np.column_stack([np.full(K, ONE), rng.integers(-ONE, ONE, (K, d - 1))]).astype(np.int16)
    tail = pack_probabilities(np.full(K, 1 / K), np.ones(K, bool))
    found = []
    for arm, (data, sparse) in enumerate(pack_x(x)):
        caller = b"%d-%d" % (batch, arm)
        sizes = 1, len(data), len(caller)
        head = Head(FORMAT, sparse, m, 0, *sizes, 1, 1, 1, made.window_ms, bytes(8), bytes(8), 0.5, *START)
        record = pack_decision(head, data, caller, b"", [(arm, 1 / K, 1 / K)], tail)
        found.append(Decide(record, caller, b"", made.window_ms))
    return found


def append(url: str, arms: int, features: int, every: float, seconds: float, results: Connection) -> None:
    """Append a batch every so many seconds; in a process of its own, as clients of other servers are."""
    store, made = RedisStore(url), experiment(arms, features)
    told: list[Appended] = []
    begun = time.monotonic()
    for number in range(1, int(seconds / every) + 1):
        items: list[Item] = list(decisions(made, number))
        items += [
            Reward(Ref(caller=item.caller), 0, 500_000, b"click", False, NO_ARM) for item in decisions(made, number)
        ]
        time.sleep(max(0.0, begun + number * every - time.monotonic()))
        reply = store.append(NAME, Batch("benchmark", number, rules_of(made, 0), items))
        answered = time.monotonic()
        if not isinstance(reply, list) or not isinstance(reply[0], Logged):
            raise TypeError(f"the store answered {reply!r}")
        told.append(Appended(store.end(NAME), answered))
    results.send(told)
    store.close()


@contextmanager
def followed(store: RedisStore) -> Iterator[Replica]:
    """The replica of a follower that is ready."""
    follower = Follower(store, b"benchmark", lease_seconds=3, checkpoint_seconds=60, grace_ms=0)
    follower.start()
    follower.ready.wait(30)
    try:
        yield follower.replicas[NAME]
    finally:
        follower.stop()
        follower.join()


def watch(replica: Replica, appender: "multiprocessing.process.BaseProcess", results: Connection) -> list[float]:
    """Milliseconds from the store's answer to each batch until it was scored."""
    seen: list[tuple[Position, float]] = []
    told: list[Appended] = []
    while not told or replica.scored < Position(*told[-1].position):
        if not seen or replica.scored != seen[-1][0]:
            seen.append((replica.scored, time.monotonic()))
        if not told and results.poll():
            told = results.recv()
        if not told and not appender.is_alive():
            raise RuntimeError("the appending process has ended")
        time.sleep(LOOK)
    seen.append((replica.scored, time.monotonic()))
    begun, found, at = told[0].answered, [], 0
    for batch in told:
        while seen[at][0] < Position(*batch.position):
            at += 1
        if batch.answered >= begun + WARM_UP:
            found.append(1000 * (seen[at][1] - batch.answered))
    return found


def measure(arms: int, features: int, every: float, seconds: float) -> list[float]:
    """Start a store, append and follow; milliseconds of each batch."""
    with tempfile.TemporaryDirectory() as directory, lock(Path(directory)):
        server = embedded.start(Path(directory))
        store = RedisStore(server.url)
        try:
            store.put(experiment(arms, features).config, None)
            ours, theirs = multiprocessing.Pipe(duplex=False)
            settings = server.url, arms, features, every, seconds + WARM_UP, theirs
            appender = multiprocessing.get_context("spawn").Process(target=append, args=settings)
            with followed(store) as replica:
                appender.start()
                found = watch(replica, appender, ours)
                appender.join()
        finally:
            store.close()
            server.stop()
    return found


def main() -> None:
    """Print p50 and p99, and whether p99 is within the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--arms", type=int, default=250, help="arms, all of which change with each batch")
    parser.add_argument("--features", type=int, default=32, help="columns of the feature vector")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between two batches")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure")
    given = parser.parse_args()
    found = measure(given.arms, given.features, given.every, given.seconds)
    settings = {"arms": given.arms, "features": given.features, "every": given.every, "batches": len(found)}
    for name, share in (("freshness_p50", 50), ("freshness_p99", 99)):
        value = round(float(np.percentile(found, share)), 1)
        figure = {"name": name, "value": value, "unit": "ms", "target": TARGET_MS, "settings": settings}
        print(json.dumps(figure) if given.json else f"{name:14} {value:7.1f} ms   aim {TARGET_MS:g}")
    sys.exit(0 if np.percentile(found, 99) <= TARGET_MS else 1)


if __name__ == "__main__":
    main()
