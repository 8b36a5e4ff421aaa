"""What the series costs: folding an entry beside folding it into sums, bytes in the store, and answering.

A log of decisions of two slices with feedback on a tenth of them, in a Valkey of its own; then rows of a day of busy
minutes and 90 days of busy hours. Run: python benchmarks/series.py [--json] [--entries 20000].
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit.core.document import Document
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE
from bandit.log.probabilities import pack_slices
from bandit.log.records import FORMAT, SLICED, START, USER, Entry, pack_decision
from bandit.log.vectors import pack_x
from bandit.process import embedded
from bandit.process.datadir import lock
from bandit.replica.replica import Replica
from bandit.replica.series import KEPT, MS, Bucket, Credited, Names, Part, Sums, fold, name_of, packed, strangers
from bandit.replica.series_reader import SeriesReader
from bandit.replica.series_writer import SeriesWriter
from bandit.serving.views.counts import series, summary
from bandit.store.keys import Keys
from bandit.store.protocol import NO_ARM, Batch, Decide, Item, Logged, Ref, Reward, rules_of
from bandit.store.redis_store import RedisStore

K, D = 32, 32
FEATURES = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(D - 1)]
SLICES = {"learned": {"share": 0.9}, "random": {"share": 0.1, "policy": {"type": "uniform"}}}
NAMES = [f"offer-{i:02}" for i in range(K)]
DOCUMENT = {"arms": NAMES, "features": FEATURES, "slices": SLICES, "rewards": {"click": {}}}
NAME = "series"


def decision(made: Experiment, random: np.random.Generator) -> Decide:
    """A decision of one of the slices, for a context of its own."""
    arm, part, config = int(random.integers(K)), int(random.random() < 0.1), made.config
    learned = np.full((1, K), 0.02 / K)
    learned[0, random.integers(K)] += 0.98
    (tail,) = pack_slices([(0, 900_000), (1, 100_000)], [learned, np.full((1, K), 1 / K)], np.ones((1, K), bool))
    x = random.integers(-8000, 8000, (1, D)).astype(np.int16)
    x[0, 0] = ONE
    ((data, sparse),) = pack_x(x, made.layout)
    p = float(learned[0, arm]) if part == 0 else 1 / K
    versions = config.generation, config.schema, config.version, made.window_ms
    head = (FORMAT, sparse | SLICED | USER, 1, part, 1, len(data), 0, *versions, random.bytes(8), bytes(8), 0.5, *START)
    user = random.bytes(16)
    return Decide(pack_decision(head, data, b"", user, [(arm, p, p)], tail), b"", user, made.window_ms)


def filled(store: RedisStore, made: Experiment, entries: int) -> None:
    """Decisions in batches, and clicks on a tenth of them."""
    random, rules, sequence = np.random.default_rng(1), rules_of(made, 0), 0

    def send(items: list[Item]) -> list[Any]:
        nonlocal sequence
        sequence += 1
        reply = store.append(NAME, Batch("filler", sequence, rules, items))
        assert isinstance(reply, list)
        return reply

    for _ in range(entries // 110):
        decisions = [decision(made, random) for _ in range(100)]
        logged = [each for each in send(list(decisions)) if isinstance(each, Logged)]
        refs = [Ref(at.position.text(), d.record[30:38]) for d, at in zip(decisions[:10], logged, strict=False)]
        send([Reward(ref, 0, 1_000_000, b"click", False, NO_ARM) for ref in refs])


def busy(generation: int) -> Bucket:
    """A bucket with everything in it: 32 arms of ten letters, two kinds, two slices."""
    kinds = {"click": Credited(4000, 4_000_000_000), "sale": Credited(400, 12_345_678)}
    parts = {name: Part(60_000, dict(kinds)) for name in SLICES}
    arms = dict.fromkeys(NAMES, 1900)
    now = 1_800_000_000_000
    steps = {"click": 1e-6, "sale": 0.01}
    return Bucket(generation, 60_000, 60_000, 0, 0, 900, 6000, now, now, arms, dict(kinds), dict(kinds), parts, steps)


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """The median time of this thread on the processor for a piece of work; the store's own is not in it."""
    taken = []
    for _ in range(times):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return float(np.median(taken))


def figures(store: RedisStore, entries: int) -> dict[str, tuple[float, str, str]]:
    """(value, unit, target) of each."""
    made = compile_config(first(NAME, msgspec.convert(DOCUMENT, Document)))
    store.put(made.config, None)
    filled(store, made, entries)
    log: list[Entry] = store.read(NAME, START, 10**9)
    names = Names.of(made)

    def whole() -> None:
        sums: Sums = {}
        for at in range(0, len(log), 2000):
            part = log[at : at + 2000]
            fold(sums, part, names, store.several(NAME, sorted(strangers(part))))

    def sums_of() -> None:
        replica = Replica(NAME, store)
        replica.load()
        replica.fold(log)

    counted, summed = seconds(whole), seconds(sums_of)
    read = seconds(lambda: store.read(NAME, START, 10**9))
    replica = Replica(NAME, store)
    replica.load()
    replica.catch_up()
    writer = SeriesWriter(replica, store)
    token = store.take_lease(NAME, None, b"benchmark")
    assert token is not None
    start = time.thread_time()
    writer.step(token, 0.0, last=True)
    written = time.thread_time() - start
    newest = replica.position.ms
    rows = {name_of(each, newest // MS[each] - i): packed([busy(1)]) for each in MS for i in range(1, KEPT[each])}
    assert store.write_series(NAME, token, replica.position, replica.position, rows, ())
    reader = SeriesReader(store)
    size = store._sync.memory_usage(Keys.of(NAME).series, samples=0)
    answers: dict[str, Callable[[], object]] = {
        "series_day": lambda: series(store, reader, replica, "minute", "", ""),
        "series_hour": lambda: series(store, reader, replica, "minute", "1h", ""),
        "series_90_days": lambda: series(store, reader, replica, "hour", "", ""),
        "summary": lambda: summary(store, reader, replica, whole=False),
        "summary_whole": lambda: summary(store, reader, replica, whole=True),
    }
    per, n = 1e6 / len(log), len(log)
    return {
        "series_fold": (counted * per, "us an entry", f"of {n} entries"),
        "series_fold_of_sums": (counted / summed, "of the fold of sums", ""),
        "sums_fold": (summed * per, "us an entry", f"d {D}, {K} arms"),
        "series_read": (read * per, "us an entry", "reading the log once more"),
        "series_write": (written * per, "us an entry", "read, folded and written"),
        "series_bytes": (size / 1e6, "MB an experiment", "every bucket full: 32 arms, two kinds, two slices"),
        **{f"answer_{name}": (1e3 * seconds(work), "ms", "every bucket full") for name, work in answers.items()},
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--entries", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory, lock(Path(directory)):
        server = embedded.start(Path(directory))
        try:
            found = figures(RedisStore(server.url), asked.entries)
        finally:
            server.stop()
    for name, (value, unit, settings) in found.items():
        figure: dict[str, Any] = {"name": name, "value": value, "unit": unit, "target": None, "settings": settings}
        print(json.dumps(figure) if asked.json else f"{name:24} {value:10.3f} {unit}  {settings}")


if __name__ == "__main__":
    main()
