"""What `doctor --rate` says is what a real store takes."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import running

from bandit.commands.sizing import need
from bandit.core.document import Document, Kind
from bandit.core.draw import Choice
from bandit.core.experiment import Experiment, compile_config
from bandit.core.features import Number
from bandit.core.revision import first
from bandit.log.probabilities import pack_probabilities
from bandit.log.records import FORMAT, USER, Head, decision_head, pack_decision
from bandit.log.vectors import pack_x
from bandit.process.embedded import find_binary
from bandit.store.protocol import NO_ARM, Batch, Decide, Logged, Outcome, Ref, Reward, rules_of
from bandit.store.redis_store import RedisStore

N, TICK = 4096, 128  # a doubling of the store's hash tables falls into the measured half
D, K = 32, 100


def decide(caller: bytes, generation: int, x: bytes, nonce: bytes, user: bytes) -> Decide:
    """A decision of LinUCB with a dense context."""
    p = np.full(K, 0.02 / K)
    p[3] += 0.98
    head = Head(
        FORMAT,
        USER * bool(user),
        1,
        0,
        1,
        len(x),
        len(caller),
        generation,
        1,
        1,
        604_800_000,
        nonce,
        bytes(8),
        0.5,
        1,
        1,
    )
    choice = Choice((3,), (0.98,), (0.98,))
    shown = zip(choice.arms, choice.propensities, choice.marginals, strict=True)
    return Decide(
        pack_decision(head, x, caller, user, shown, pack_probabilities(p, np.ones(K, bool))), caller, user, 604_800_000
    )


@pytest.mark.parametrize(
    ("named", "rewarded", "users"),
    [(False, False, False), (True, False, False), (False, True, False), (False, False, True), (True, True, True)],
)
def test_the_computed_memory_is_what_valkey_takes(tmp_path: Path, named: bool, rewarded: bool, users: bool) -> None:
    """Bytes a decision, bare, named, rewarded or of a user, are within 15 % of what a real store grows by."""
    features = tuple(Number(f"f{i}", 0.0, 1.0) for i in range(D - 1))
    experiment = compile_config(first("home", Document({"click": Kind()}, tuple(f"a{i}" for i in range(K)), features)))
    with running(find_binary(), tmp_path) as url:
        store = RedisStore(url)
        store.put(experiment.config, None)
        ticks = [tick(np.random.default_rng(i), named, users) for i in range(2 * N // TICK)]
        used = []
        for i, items in enumerate(ticks):
            if i % (N // TICK) == 0:
                used.append(store.info()["used_memory"])
            append(store, experiment, 2 * i + 1, items, rewarded, own_id=named)
        measured = (
            store.info()["used_memory"] - used[1]
        ) / N  # from the second half: the first paid for the beginnings
        store.close()
    computed = need(1, d=D, arms=K, kinds=1, window=604_800, rewarded=float(rewarded), named=named, users=users)
    assert measured == pytest.approx(computed.decision + rewarded * computed.feedback, rel=0.15)


def tick(random: np.random.Generator, named: bool, users: bool) -> list[Decide]:
    """A tick's decisions, each with a context of its own."""
    grid = random.integers(-30_000, 30_000, (TICK, D)).astype(np.int16)
    callers = [os.urandom(16).hex().encode() if named else b"" for _ in range(TICK)]
    hashes = [os.urandom(16) if users else b"" for _ in range(TICK)]
    packed = pack_x(grid)
    return [
        decide(caller, 1, x, os.urandom(8), user) for user, caller, (x, _) in zip(hashes, callers, packed, strict=True)
    ]


def append(
    store: RedisStore, experiment: Experiment, sequence: int, items: list[Decide], rewarded: bool, *, own_id: bool
) -> None:
    """Log a tick, and then a click for each of its decisions (or nothing, under the next number)."""
    rules = rules_of(experiment, 86_400_000)
    reply = store.append("home", Batch("p", sequence, rules, items))
    assert isinstance(reply, list)
    clicks = []
    for each, item in zip(reply, items, strict=True):
        if rewarded and isinstance(each, Logged):
            nonce = decision_head(item.record).nonce
            ref = Ref(caller=item.caller) if own_id else Ref(entry=each.position.text(), nonce=nonce)
            event = os.urandom(16).hex().encode() if own_id else b"click"
            clicks.append(Reward(ref, 0, 10**6, event, own_id, NO_ARM))
    done = store.append("home", Batch("p", sequence + 1, rules, clicks))
    assert isinstance(done, list)
    assert [each.status for each in done if isinstance(each, Outcome)] == ["accepted"] * len(clicks)
