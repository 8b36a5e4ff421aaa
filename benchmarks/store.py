"""What an append costs: the store's processor by kind of item and size of a script, and this process's own.

- store_KIND_SIZE: processor microseconds of the store an item, its share of the script's own cost included: a decision
  (32 features, 10 arms), the first feedback on one by id and by user, and an activation; 1, 16 and 64 items a script.
- client_append_64: processor microseconds of this process an append of 64 items, decisions and feedback in turn:
  packing, writing, reading, and what the event loop takes; one experiment after the other, and eight at once.

Medians of rounds. Run: python benchmarks/store.py [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import redis
import uvloop

from bandit.core.document import Document
from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import DEFERRED, FORMAT, START, USER, Head, pack_decision
from bandit.log.vectors import pack_x
from bandit.process import embedded
from bandit.process.datadir import lock
from bandit.store.protocol import NO_ARM, Activate, Batch, Decide, Item, Logged, Ref, Result, Reward, rules_of
from bandit.store.redis_store import RedisStore

ARMS, FEATURES = 10, 32
SIZES = 1, 16, 64
ITEMS = 2048  # of each kind and size in a round
DAY = 86_400_000
KINDS = "decision", "feedback_id", "feedback_user", "activation"

Figure = tuple[str, float, str, float | None, dict[str, Any]]  # name, value, unit, target, settings


class Writer:
    """One experiment, and one producer that writes to its log."""

    def __init__(self, store: RedisStore, name: str) -> None:
        document = {
            "arms": [f"arm-{i}" for i in range(ARMS)],
            "features": [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(FEATURES - 1)],
            "rewards": {"click": {}},
        }
        config = first(name, msgspec.convert(document, Document))
        self.store, self.name, self.sequence, self.nonces = store, name, 0, 0
        self.experiment: Experiment = compile_config(config)
        self.rules = rules_of(self.experiment, DAY)
        self.random = np.random.default_rng(1)
        self.tail = pack_probabilities(np.full(ARMS, 1 / ARMS), np.ones(ARMS, bool))
        store.put(config, None)

    def decision(self, flags: int = 0) -> Decide:
        """A decision that shows one arm."""
        self.nonces += 1
        nonce = self.nonces.to_bytes(8, "big")
        x = self.random.integers(-ONE, ONE, (1, self.experiment.shape[2])).astype(np.int16)
        ((data, sparse),) = pack_x(x)
        user = nonce * 2 if flags & USER else b""
        config = self.experiment.config
        versions = config.generation, config.schema, config.version
        window = self.experiment.window_ms
        head = Head(FORMAT, flags | sparse, 1, 0, 1, len(data), 0, *versions, window, nonce, bytes(8), 0.5, *START)
        record = pack_decision(head, data, b"", user, [(self.nonces % ARMS, 1 / ARMS, 1 / ARMS)], self.tail)
        return Decide(record, b"", user, window)

    def batches(self, items: Sequence[Item], size: int) -> list[Batch]:
        """The next batches of this producer."""
        found = []
        for at in range(0, len(items), size):
            self.sequence += 1
            found.append(Batch("bench", self.sequence, self.rules, items[at : at + size], round(time.time() * 1000)))
        return found

    def send(self, batches: Sequence[Batch]) -> list[Result]:
        """Append them; every result."""
        results: list[Result] = []
        for batch in batches:
            reply = self.store.append(self.name, batch)
            assert isinstance(reply, list), reply
            results += reply
        return results

    def items(self, kind: str, count: int) -> list[Item]:
        """So many items of a kind, each on a decision of its own, which is logged first."""
        flags = {"feedback_user": USER, "activation": DEFERRED}.get(kind, 0)
        made = [self.decision(flags) for _ in range(count)]
        if kind == "decision":
            return list(made)
        logged = self.send(self.batches(made, 64))
        refs = [_ref(decide, result) for decide, result in zip(made, logged, strict=True)]
        if kind == "activation":
            return [Activate(ref) for ref in refs]
        if kind == "feedback_user":
            refs = [Ref(user=decide.user) for decide in made]
        return [Reward(ref, 0, 500_000, b"click", False, NO_ARM) for ref in refs]


def _ref(decide: Decide, result: Result) -> Ref:
    """The server's own id of a logged decision."""
    assert isinstance(result, Logged)
    return Ref(entry=result.position.text(), nonce=decide.record[30:38])


class Costs(NamedTuple):
    """What is measured with."""

    store: RedisStore
    raw: redis.Redis
    rounds: int

    def processor(self) -> float:
        """Seconds of the processor that the store's main thread has taken."""
        info: dict[str, float] = self.raw.info("cpu")
        return info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]


def of_store(costs: Costs) -> Iterator[Figure]:
    """Each kind of item at each size."""
    found: dict[tuple[str, int], list[float]] = {}
    for turn in range(costs.rounds + 1):  # the first warms up
        writer = Writer(costs.store, f"store-{turn}")
        for kind in KINDS:
            for size in SIZES:
                batches = writer.batches(writer.items(kind, ITEMS), size)
                before = costs.processor()
                results = writer.send(batches)
                spent = costs.processor() - before
                assert not any(getattr(result, "status", "accepted") not in SAID for result in results)
                found.setdefault((kind, size), []).append(1e6 * spent / ITEMS)
    for (kind, size), values in found.items():
        settings = {"arms": ARMS, "features": FEATURES, "items": size, "rounds": costs.rounds}
        yield f"store_{kind}_{size}", statistics.median(values[1:]), "us", None, settings


SAID = "accepted", "activated"


def of_client(costs: Costs) -> Iterator[Figure]:
    """An append of 64, by the event loop's client."""
    for together in (1, 8):
        writers = [Writer(costs.store, f"client-{together}-{i}") for i in range(together)]
        values = [uvloop.run(_appended(costs.store, writers)) for _ in range(costs.rounds + 1)]
        settings = {"items": 64, "experiments at once": together, "rounds": costs.rounds}
        yield f"client_append_64_of_{together}", statistics.median(values[1:]), "us", None, settings


async def _appended(store: RedisStore, writers: list[Writer]) -> float:
    """Processor microseconds an append."""
    plans = []
    for writer in writers:
        pairs = zip(writer.items("decision", ITEMS), writer.items("feedback_id", ITEMS), strict=True)
        plans.append(writer.batches([item for pair in pairs for item in pair], 64))

    async def run(writer: Writer, batches: list[Batch]) -> None:
        for batch in batches:
            assert isinstance(await store.append_async(writer.name, batch), list)

    await store.append_async("nobody", plans[0][0])  # connects
    begun = time.process_time()
    await asyncio.gather(*(run(writer, batches) for writer, batches in zip(writers, plans, strict=True)))
    spent = time.process_time() - begun
    await store.aclose()
    return 1e6 * spent / sum(map(len, plans))


def measure(rounds: int) -> Iterator[Figure]:
    """Start a store and measure."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory, lock(Path(directory)):
        server = embedded.start(Path(directory))
        store = RedisStore(server.url)
        try:
            with redis.Redis.from_url(server.url) as raw:
                costs = Costs(store, raw, rounds)
                yield from of_store(costs)
                yield from of_client(costs)
        finally:
            store.close()
            server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--rounds", type=int, default=7, help="medians of so many")
    options = parser.parse_args(arguments)
    for name, value, unit, target, settings in measure(options.rounds):
        number = float(f"{value:.4g}")
        figure = {"name": name, "value": number, "unit": unit, "target": target, "settings": settings}
        print(json.dumps(figure) if options.json else f"{name:24} {number:8.4g} {unit:3} {settings}", flush=True)


if __name__ == "__main__":
    main()
