"""How long after an entry is in the log every decision of this server reflects it: log, fold and refresh together.

A real store, one follower in this process, and another process that appends at a steady rate: batches of decisions,
each of another arm, and feedback on each. Once a tenth of the arms ten times in a sweep (`freshness`), once all of
them together, twice as often (`freshness_burst`: the most there can be to refresh). An entry is fresh when the
replica's `scored` has passed it; that is looked at every millisecond. Meanwhile lambda is looked for, and with
`--prior pooled` what arms have in common; `--idle` adds arms that never change, and are factored again whenever
something is found. `freshness_half_load` is of a server that decides half as often as it can: its answers tell both
their own entry and what the model reflects.
"""

import argparse
import json
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from stalls import CONTEXT, FEATURES, serving

from bandit.core.document import Document
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import FORMAT, START, Head, Position, pack_decision, read_decision_id
from bandit.log.vectors import pack_x
from bandit.process import embedded
from bandit.process.datadir import lock
from bandit.replica.follower import Follower
from bandit.replica.replica import Replica
from bandit.store.protocol import NO_ARM, Batch, Decide, Item, Logged, Ref, Reward, rules_of
from bandit.store.redis_store import RedisStore

NAME = "freshness"
TARGETS_MS = {"freshness": 50.0, "freshness_burst": 100.0, "freshness_half_load": 150.0}  # of p99
CONNECTIONS = 16  # of the half load
LOOK = 0.001  # seconds between two looks at what is scored
WARM_UP = 2.0  # seconds that are not counted


class Appended(NamedTuple):
    """The last entry of a batch, and when the store had answered it (monotonic)."""

    position: tuple[int, int]
    answered: float


class Load(NamedTuple):
    """What is appended."""

    arms: int
    features: int
    sweep: float  # seconds in which every arm changes once
    batches: int  # a sweep is appended in
    seconds: float
    prior: str = "mean"
    idle: int = 0  # arms more, which never change


def experiment(load: Load) -> Experiment:
    """So many arms and number features, an intercept among them."""
    features = load.features
    document = {
        "arms": [f"arm-{i}" for i in range(load.arms + load.idle)],
        "prior": load.prior,
        "features": [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(features - 1)],
        "rewards": {"click": {}},
    }
    return compile_config(first(NAME, msgspec.convert(document, Document)))


def decisions(made: Experiment, batch: int, arms: list[int]) -> list[Decide]:
    """A decision for each of these arms, named by the caller so that feedback in the same batch can refer to it."""
    K, m, d = made.shape
    rng = np.random.default_rng(batch)
    x = np.column_stack([np.full(len(arms), ONE), rng.integers(-ONE, ONE, (len(arms), d - 1))]).astype(np.int16)
    tail = pack_probabilities(np.full(K, 1 / K), np.ones(K, bool))
    found = []
    for arm, (data, sparse) in zip(arms, pack_x(x), strict=True):
        caller = b"%d-%d" % (batch, arm)
        sizes = 1, len(data), len(caller)
        head = Head(FORMAT, sparse, m, 0, *sizes, 1, 1, 1, made.window_ms, bytes(8), bytes(8), 0.5, *START)
        record = pack_decision(head, data, caller, b"", [(arm, 1 / K, 1 / K)], tail)
        found.append(Decide(record, caller, b"", made.window_ms))
    return found


def append(url: str, load: Load, results: Connection) -> None:
    """Append a batch every so many seconds; in a process of its own, as clients of other servers are."""
    store, made = RedisStore(url), experiment(load)
    every = load.sweep / load.batches
    size, told = load.arms // load.batches, list[Appended]()
    begun = time.monotonic()
    for number in range(1, int(load.seconds / every) + 1):
        arms = [(number * size + i) % load.arms for i in range(size)]
        items: list[Item] = list(decisions(made, number, arms))
        items += [Reward(Ref(caller=b"%d-%d" % (number, arm)), 0, 500_000, b"click", False, NO_ARM) for arm in arms]
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


def measure(load: Load) -> list[float]:
    """Start a store, append and follow; milliseconds of each batch."""
    with tempfile.TemporaryDirectory() as directory, lock(Path(directory)):
        server = embedded.start(Path(directory))
        store = RedisStore(server.url)
        try:
            store.put(experiment(load).config, None)
            ours, theirs = multiprocessing.Pipe(duplex=False)
            settings = server.url, load._replace(seconds=load.seconds + WARM_UP), theirs
            appender = multiprocessing.get_context("spawn").Process(target=append, args=settings)
            with followed(store) as replica:
                appender.start()
                found = watch(replica, appender, ours)
                appender.join()
        finally:
            store.close()
            server.stop()
    return found


def ask(url: str, end: float, pause: float, seen: list[tuple[float, Position, Position]]) -> None:
    """One connection's decisions, with a pause after each: when each was answered, its entry, and what it reflects."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"context": CONTEXT}).encode()
    head = f"POST /v1/experiments/{NAME}/recommendations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((host, int(port))) as connection:
        while time.monotonic() < end:
            connection.sendall(request)
            answer = connection.recv(65536)
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            answered, said = time.monotonic(), msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
            mine = read_decision_id(said["decision_id"])
            if mine is not None:
                seen.append((answered, mine[1], Position.parse(said["model_position"].encode())))
            time.sleep(pause)


def asked(url: str, seconds: float, pause: float) -> list[tuple[float, Position, Position]]:
    """What all connections saw, in order."""
    seen: list[tuple[float, Position, Position]] = []
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, args=(url, end, pause, seen)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(seen)


def half_load(arms: int, seconds: float) -> tuple[list[float], float]:
    """(milliseconds of each decision until an answer reflected it, decisions a second): at half of what is possible."""
    with serving() as (server, _):
        server.put(NAME, arms=[f"arm-{i}" for i in range(arms)], features=FEATURES)
        most = len(asked(server.url, 3.0, 0.0)) / 3.0
        seen = asked(server.url, seconds, 2 * CONNECTIONS / most - CONNECTIONS / most)
    found, at = [], 0
    for answered, mine, _ in seen:
        while at < len(seen) and seen[at][2] < mine:
            at += 1
        if at < len(seen):
            found.append(1000 * max(0.0, seen[at][0] - answered))
    return found, len(seen) / seconds


def main() -> None:
    """Print p50 and p99 of all loads; exit 1 where a p99 is above its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--arms", type=int, default=250, help="arms, all of which change in a sweep")
    parser.add_argument("--features", type=int, default=32, help="columns of the feature vector")
    parser.add_argument("--sweep", type=float, default=0.2, help="seconds a sweep of all arms; bursts: half of it")
    parser.add_argument("--prior", default="mean", choices=["mean", "pooled"], help="what arms are drawn to")
    parser.add_argument("--idle", type=int, default=0, help="arms more, which never change")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to measure each load")
    given = parser.parse_args()
    missed = False
    for name, target in TARGETS_MS.items():
        if name == "freshness_half_load":
            found, rate = half_load(given.arms, given.seconds)
            settings = {"arms": given.arms, "connections": CONNECTIONS, "decisions_per_s": round(rate)}
        else:
            burst = name == "freshness_burst"
            sweep, batches = (given.sweep / 2, 1) if burst else (given.sweep, 10)
            load = Load(given.arms, given.features, sweep, batches, given.seconds, given.prior, given.idle)
            found, settings = measure(load), load._asdict()
        for share in (50, 99):
            value = round(float(np.percentile(found, share)), 1)
            aim = target if share == 99 else None
            figure = {"name": f"{name}_p{share}_ms", "value": value, "unit": "ms", "target": aim}
            figure["settings"] = settings | {"measured": len(found)}
            print(json.dumps(figure) if given.json else f"{figure['name']:28} {value:7.1f} ms   aim {aim}", flush=True)
        missed |= value > target
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
