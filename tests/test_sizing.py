"""What `doctor --rate` says is what a real store takes."""

import os

import numpy as np
import pytest

from bandit.draw import Choice
from bandit.experiment import Document, Kind, compile_config, first
from bandit.features import Number
from bandit.log import FORMAT, Head, pack_decision, pack_probabilities, pack_x
from bandit.redis_store import RedisStore
from bandit.sizing import need
from bandit.store import NO_ARM, Batch, Decide, Logged, Ref, Reward, rules_of

N = 1500
D, K = 32, 100


def decide(caller: bytes, generation: int, x: bytes, nonce: bytes) -> Decide:
    """A decision of LinUCB with a dense context."""
    p = np.full(K, 0.02 / K)
    p[3] += 0.98
    head = Head(FORMAT, 0, 1, 0, 1, len(x), len(caller), generation, 1, 1, 604_800_000, nonce, bytes(8), 0.5, 1, 1)
    choice = Choice((3,), (0.98,), (0.98,))
    shown = zip(choice.arms, choice.propensities, choice.marginals, strict=True)
    return Decide(
        pack_decision(head, x, caller, b"", shown, pack_probabilities(p, np.ones(K, bool))), caller, b"", 604_800_000
    )


@pytest.mark.parametrize(("named", "rewarded"), [(False, False), (True, False), (False, True)])
def test_the_computed_memory_is_what_valkey_takes(valkey: str, name: str, named: bool, rewarded: bool) -> None:
    """Bytes a decision, bare, caller-named or rewarded, are within a tenth of the memory that a real store grows by."""
    store = RedisStore(valkey)
    features = tuple(Number(f"f{i}", 0.0, 1.0) for i in range(D - 1))
    experiment = compile_config(first(name, Document({"click": Kind()}, tuple(f"a{i}" for i in range(K)), features)))
    store.put(experiment.config, None)
    rules, random = rules_of(experiment, 86_400_000), np.random.default_rng(0)
    store.append(name, Batch("p", 1, rules, []))  # the script is in the store's cache from here on
    before, sequence = store.info()["used_memory"], 1
    for _ in range(N // 100):
        grid = random.integers(-30_000, 30_000, (100, D)).astype(np.int16)
        nonces = [os.urandom(8) for _ in range(100)]
        callers = [os.urandom(16).hex().encode() if named else b"" for _ in range(100)]
        parts = zip(callers, pack_x(grid), nonces, strict=True)
        items = [decide(caller, 1, x, nonce) for caller, (x, _), nonce in parts]
        sequence += 1
        reply = store.append(name, Batch("p", sequence, rules, items))
        if rewarded:
            assert isinstance(reply, list)
            refs = [
                Ref(entry=each.position.text(), nonce=nonce)
                for each, nonce in zip(reply, nonces, strict=True)
                if isinstance(each, Logged)
            ]
            sequence += 1
            store.append(
                name, Batch("p", sequence, rules, [Reward(ref, 0, 10**6, b"click", False, NO_ARM) for ref in refs])
            )
    measured = (store.info()["used_memory"] - before) / N
    store.close()
    computed = need(1, d=D, arms=K, kinds=1, window=604_800, rewarded=float(rewarded), named=named)
    assert measured == pytest.approx(computed.decision + rewarded * computed.feedback, rel=0.1)
