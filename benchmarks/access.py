"""What the gate costs a request, and whether a refusal says by its time why it refuses.

In process: an exchange is made and begun, with nothing behind it, with keys off, with a key that was seen before, one
for one experiment, one with a limit, a wrong one, none; the figures are what each costs more than with keys off. Then
the time to refuse a known id with a wrong secret, beside that of an unknown id: medians of many, taken in turn.

Run: python benchmarks/access.py [--json] [--rounds 200]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from types import SimpleNamespace
from typing import Any

from bandit.access.keys import limit_of, new_text
from bandit.access.manage import Keyring, Wanted
from bandit.process.direct import Exchange, Plain
from bandit.serving.access.gate import Gate
from bandit.settings import Settings
from bandit.store.memory_store import MemoryStore

TIMES = 500  # in a row
WRITER = Wanted("writer", ("write",))
TARGETS = {"access_seen": 1.0, "access_refusal_known_id_of_unknown": 1.1}


def began(gate: Gate, key: str) -> float:
    """Seconds of one exchange that is made and begun, and answered where it is refused."""
    nothing = SimpleNamespace(begin=lambda *_: None, told=lambda *_: None, refused=lambda *_: None)
    transport = SimpleNamespace(is_closing=lambda: False, write=lambda _: None)
    protocol: Any = SimpleNamespace(
        gate=gate,
        direct=nothing,
        transport=transport,
        whole=lambda *_: b"HTTP/1.1 200 OK\r\n\r\n",
        answered=lambda: None,
    )
    plain = Plain("home", "recommendations", 2, key.encode(), b"")
    start = time.perf_counter()
    for _ in range(TIMES):
        Exchange(protocol, plain, True, b"{}").begin()
    return (time.perf_counter() - start) / TIMES


def refused(gate: Gate, key: bytes) -> float:
    """Seconds in which one key is looked for."""
    start = time.perf_counter()
    for _ in range(TIMES):
        gate.ring.find(key)
    return (time.perf_counter() - start) / TIMES


def figures(rounds: int) -> list[dict[str, Any]]:
    """Each figure, the median over the rounds."""
    store = MemoryStore()
    keyring = Keyring(store)
    seen = keyring.create(WRITER)
    named = keyring.create(WRITER._replace(experiments=("home",)))
    limited = keyring.create(WRITER._replace(limit=limit_of("999999999/s")))
    off, on = (Gate(Settings.model_validate({"auth": auth}), store) for auth in ("off", "on"))
    on.ring.look()
    keys = {"seen": seen.text, "named": named.text, "limited": limited.text, "wrong": new_text(), "none": ""}
    wrong = f"bs_{seen.row.id}_{'0' * 43}".encode(), new_text().encode()
    costs: dict[str, list[float]] = {name: [] for name in keys}
    ratios = []
    for _ in range(rounds):
        free = began(off, seen.text)
        for name, key in keys.items():
            costs[name].append((began(on, key) - free) * 1e6)
        known, unknown = (refused(on, key) for key in wrong)
        ratios.append(known / unknown)
    found = [(f"access_{name}", statistics.median(values), "us") for name, values in costs.items()]
    found.append(("access_refusal_known_id_of_unknown", statistics.median(ratios), "ratio"))
    return [
        {"name": name, "value": float(f"{value:.3g}"), "unit": unit, "target": TARGETS.get(name), "settings": {}}
        for name, value, unit in found
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    for each in figures(asked.rounds):
        print(json.dumps(each) if asked.json else f"{each['name']:<40}{each['value']:>8g} {each['unit']}")


if __name__ == "__main__":
    main()
