"""What a replica's share of the processor is: entries a second that its thread reads, decodes, adds up and scores.

A real store holds a log of decisions and of feedback on each; a replica follows it from its start to its end as the
follower does, a turn of entries and then a chunk of arms, until all is scored. Figures are entries a second of
processor time of this thread: `replica_events_per_s` of all of it, `replica_50_a_turn` where turns are as short as on a
server that is asked less, `replica_read`, `replica_decode`, `replica_sums` and `replica_refresh` of the parts alone.
`first_start` is what a start with many arms and no checkpoints takes, and `arm_added_stall` the longest that a decision
waits while one more arm is taken up.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit.core.document import Document
from bandit.core.engine import Model
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first, revise
from bandit.core.sums import ONE, increments
from bandit.log.events import read_events
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import FORMAT, START, Feedback, Head, Position, pack_decision, pack_feedback
from bandit.log.vectors import pack_x
from bandit.process import embedded
from bandit.process.datadir import lock
from bandit.replica.replica import TURN, Replica
from bandit.store.keys import Keys
from bandit.store.redis_store import RedisStore

NAME = "replica"
PACED = 5, 50, 250  # entries a turn of servers that are asked less
MANY = 10_000  # arms: as many as there may be
LOOK = 0.001  # seconds between two looks
EVENTS_PER_S, START_S, STALL_MS = 100_000, 3.0, 10.0
Figure = tuple[str, float, str, float | None, dict[str, Any]]  # name, value, unit, target, settings


def experiment(arms: int, features: int, name: str = NAME) -> Experiment:
    """So many arms and number features, an intercept among them."""
    document = {
        "arms": [f"arm-{i}" for i in range(arms)],
        "features": [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(features - 1)],
        "rewards": {"click": {}},
    }
    return compile_config(first(name, msgspec.convert(document, Document)))


def records(made: Experiment, decisions: int, seed: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """(tag, record) of decisions of arms at random, each followed by its feedback."""
    K, m, d = made.shape
    rng = np.random.default_rng(seed)
    tail = pack_probabilities(np.full(K, 1 / K), np.ones(K, bool))
    x = np.column_stack([np.full(decisions, ONE), rng.integers(-ONE, ONE, (decisions, d - 1))]).astype(np.int16)
    arms = rng.integers(0, K, decisions).tolist()
    for i, (arm, (data, sparse)) in enumerate(zip(arms, pack_x(x), strict=True)):
        nonce = i.to_bytes(8, "big")
        head = Head(FORMAT, sparse, m, 0, 1, len(data), 0, 1, 1, 1, made.window_ms, nonce, bytes(8), 0.5, *START)
        yield b"d", pack_decision(head, data, b"", b"", [(arm, 1 / K, 1 / K)], tail)
        credits_ = (0,) * m, (500_000,) + (0,) * (m - 1)
        given = Feedback(sparse, 1, 0, Position(1, i), nonce, "", arm, 500_000, "click", *credits_, data)
        yield b"f", pack_feedback(given, 1)


def fill(store: RedisStore, made: Experiment, decisions: int) -> None:
    """Make the experiment, and write its log as the script of the store would have."""
    store.put(made.config, None)
    log = Keys.of(made.config.name).log
    rest = records(made, decisions)
    while part := list(islice(rest, 2000)):
        pipe = store._sync.pipeline(transaction=False)
        for tag, record in part:
            pipe.execute_command("XADD", log, "*", tag, record)
        pipe.execute()


@contextmanager
def stored() -> Iterator[RedisStore]:
    """A store that runs, empty."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory, lock(Path(directory)):
        server = embedded.start(Path(directory))
        store = RedisStore(server.url)
        try:
            yield store
        finally:
            store.close()
            server.stop()


def spent(work: Callable[[], Any]) -> float:
    """Seconds of the processor that this thread takes for it."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def followed(store: RedisStore, turn: int = TURN, count: int = 2**63) -> float:
    """Seconds of this thread for an entry of the log, or of its first `count`, in turns of so many entries."""
    replica, entries = Replica(NAME, store), 0
    replica.load()
    end = store.end(NAME)

    def follow() -> None:
        nonlocal entries
        while replica.position < end and entries < count:
            entries += replica.step(turn)
            replica.refresh()
        while replica.refresh():
            pass

    return spent(follow) / entries


def rates(store: RedisStore, arms: int, features: int, decisions: int, times: int) -> Iterator[Figure]:
    """Entries a second: of everything, and of each part alone, the median of several times."""
    made = experiment(arms, features)
    fill(store, made, decisions)
    settings = {"arms": arms, "features": features, "entries": 2 * decisions, "turn": TURN, "times": times}
    whole = statistics.median(followed(store) for _ in range(times))
    yield "replica_events_per_s", 1 / whole, "1/s", EVENTS_PER_S, settings
    for turn in PACED:
        paced = statistics.median(followed(store, turn, 200 * turn) for _ in range(times))
        yield f"replica_{turn}_a_turn", 1 / paced, "1/s", None, settings | {"turn": turn}
    entries = store.read(NAME, START, TURN + 1)[1:]
    _, m, d = made.shape
    batch = read_events(entries, 1, made.defaults, m, d)
    model = Model(made)

    def refresh() -> None:
        model.waiting.mark(np.unique(batch.events.arm), factor=True)
        while model.refresh():
            pass

    parts: dict[str, Callable[[], Any]] = {
        "read": lambda: store.read(NAME, START, TURN),
        "decode": lambda: read_events(entries, 1, made.defaults, m, d),
        "sums": lambda: model.sums.add(*increments(batch.events)),
        "refresh": refresh,
    }
    for part, work in parts.items():
        value = statistics.median(spent(work) for _ in range(20 * times))
        yield f"replica_{part}", len(entries) / value, "1/s", None, settings


def first_start(store: RedisStore, arms: int, features: int) -> Iterator[Figure]:
    """A replica of an experiment whose arms have all been shown, with a log and no checkpoints."""
    fill(store, experiment(arms, features, "many"), 2 * arms)
    replica = Replica("many", store)
    begun = time.monotonic()
    replica.load()
    replica.catch_up()
    seconds = time.monotonic() - begun
    yield f"first_start_{arms}x{features}_s", seconds, "s", START_S, {"arms": arms, "features": features}


def added(store: RedisStore, arms: int, features: int) -> Iterator[Figure]:
    """The last of so many arms is taken up while decisions are made."""
    made = experiment(arms - 1, features, "growing")
    store.put(made.config, None)
    replica = Replica("growing", store)
    replica.load()
    replica.catch_up()
    kept = store.config("growing")
    assert kept is not None
    document = msgspec.to_builtins(kept.config.document)
    document["arms"] = (*document["arms"], "new")
    store.put(revise(kept.config, msgspec.convert(document, Document), learned=False, reset=False), kept)
    waits = waited(replica, replica.catch_up)
    settings = {"arms": arms, "features": features, "looks": len(waits)}
    yield "arm_added_stall_ms", 1000 * max(waits), "ms", STALL_MS, settings


def waited(replica: Replica, work: Callable[[], Any]) -> list[float]:
    """How long each wake-up, with taking the lock that a decision takes, came late while a thread did the work."""
    thread, found = threading.Thread(target=work), [0.0]
    thread.start()
    while thread.is_alive():
        begun = time.monotonic()
        time.sleep(LOOK)
        model = replica.model
        assert model is not None
        with model.lock:
            found.append(time.monotonic() - begun - LOOK)
    thread.join()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; exit 1 where one misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sys.setswitchinterval(0.001)  # as a worker has it
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--arms", type=int, default=100)
    parser.add_argument("--features", type=int, default=32, help="columns of the feature vector")
    parser.add_argument("--decisions", type=int, default=50_000, help="in the log, each with one feedback")
    parser.add_argument("--times", type=int, default=5, help="how often all of it is measured")
    given = parser.parse_args(arguments)
    with stored() as store:
        figures = [*rates(store, given.arms, given.features, given.decisions, given.times)]
        figures += first_start(store, MANY, given.features)
        figures += added(store, MANY, given.features)
    missed = False
    for name, value, unit, target, settings in figures:
        figure = {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target, "settings": settings}
        print(json.dumps(figure) if given.json else f"{name:24} {value:12.4g} {unit:4} {settings}")
        missed |= target is not None and (value < target if unit == "1/s" else value > target)
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
