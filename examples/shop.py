"""A shop goes live: twelve offers on a home page, for a made-up world whose truth is known. Does learning pay?

A tenth of the users sees offers at random. Purchases come late and some go back, an editor pauses an offer while a
nightly job sends all offers anew, and at the end stands a sentence about the lift, with the truth beside it.

Takes about two minutes, with a server of its own, or with yours: python examples/shop.py [http://127.0.0.1:8080]
"""

import argparse
import asyncio
import contextlib
import heapq
import json
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from bandit.client import Client, ClientError, Recommendation

CLICK, CAP = 0.2, 150.0  # euros that a click is worth; a decision's purchases above CAP count as it in the sentence
OFFERS: dict[str, dict[str, Any]] = {  # each with to whom it may be shown
    "new-arrivals": {},
    "bestsellers": {},
    "clearance": {},
    "gift-cards": {},
    "outdoor": {},
    "kitchen": {},
    "books": {},
    "pickup-today": {"country": ["de", "fr"]},
    "free-delivery": {"basket": {"min": 20}},
    "app-only": {"device": ["phone"]},
    "late-night": {"hour": {"min": 18}},
    "members": {"member": [True]},
}
EXPERIMENT = {
    "features": [
        {"name": "country", "type": "category", "levels": ["de", "fr", "pl"]},
        {"name": "device", "type": "category", "levels": ["phone", "desktop"], "other": False},
        {"name": "basket", "type": "number", "mean": 30, "scale": 25, "missing": "indicator"},
        {"name": "hour", "type": "number", "cycle": 24},
    ],
    "attributes": ["member"],
    "rewards": {
        "click": {"weight": CLICK},
        "purchase": {"range": [0, 500], "over_range": "clip", "unit": 0.01, "cap": CAP},
    },
    "refunds": "30d",
    "slices": {"learned": {}, "random": {"share": 0.1, "policy": {"type": "uniform"}}},
}
PAUSED = "clearance"
STEP = 250  # decisions after which what is due is sent
AT_ONCE = 16  # visitors at a time

Numbers = NDArray[np.float64]


def arms(edition: int) -> list[dict[str, Any]]:
    """All offers, as the nightly job sends them: it names no status, so it changes none."""
    return [
        {"id": offer, "when": when, "payload": {"headline": f"{offer}, edition {edition}"}}
        for offer, when in OFFERS.items()
    ]


@dataclass
class World:
    """Who comes, and what each would do with each offer: the truth, which the server is never told.

    Arrays have a row for each visit and a column for each offer.
    """

    users: list[str]
    contexts: list[dict[str, Any]]
    eligible: NDArray[np.bool_]
    click: Numbers  # the chance of a click
    buy: Numbers  # and of a purchase

    @classmethod
    def made(cls, rng: np.random.Generator, n: int) -> "World":
        """Some visits: few users make most of them, and taste, country and device stay a user's."""
        visits = np.minimum((1 - rng.random(n)) ** (-1 / 1.5), 100).astype(int)  # of each user
        user = rng.permutation(np.repeat(np.arange(n), visits)[:n])
        country = rng.choice(["de", "fr", "pl", "es"], n, p=[0.4, 0.3, 0.2, 0.1])[user]
        phone, member, taste = (rng.random(n) < 0.6)[user], (rng.random(n) < 0.3)[user], rng.gamma(2, 0.5, n)[user]
        basket, hour = np.rint(25 * np.exp(0.7 * rng.standard_normal(n))), rng.integers(0, 24, n)
        basket[rng.random(n) < 0.15] = np.nan  # nobody knows it: the context does not have it
        contexts = [
            {"country": c, "device": "phone" if p else "desktop", "hour": h, "member": m}
            | ({} if np.isnan(b) else {"basket": b})
            for c, p, b, h, m in zip(country, phone, basket, hour, member, strict=True)
        ]
        kinds = [country == "de", country == "fr", country == "pl", phone, np.isnan(basket)]
        numbers = [np.nan_to_num((basket - 30) / 25), np.sin(hour * np.pi / 12)]
        x = np.column_stack([np.ones(n), *kinds, *numbers])
        likes = rng.standard_normal((2, len(OFFERS), x.shape[1])) * [0.5, 0.6, 0.6, 0.6, 0.6, 0.3, 0.4, 0.5]
        z, more = x @ likes[0].T, x @ likes[1].T
        buy = np.minimum(0.4, 0.016 * np.exp(np.clip(0.4 * z + 0.6 * more, -3, 2)) * taste[:, None])
        eligible = np.array([[_meets(context, when) for when in OFFERS.values()] for context in contexts])
        return cls([f"user-{u}" for u in user], contexts, eligible, 1 / (1 + np.exp(2.2 - z)), buy)


def _meets(context: dict[str, Any], when: dict[str, Any]) -> bool:
    return all(
        context[name] in asked if isinstance(asked, list) else context.get(name, -np.inf) >= asked["min"]
        for name, asked in when.items()
    )


def amounts(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    """What purchases cost, up to 500 euros, and what of it goes back: nothing, half or all."""
    euros = np.round(np.minimum(500, 35 * np.exp(0.9 * rng.standard_normal(n))), 2)
    return euros, np.round(euros * rng.choice([0, 0.5, 1], n, p=[0.85, 0.07, 0.08]), 2)


@dataclass
class Run:
    """One run: the world, what was answered, and what is still to come."""

    world: World
    rng: np.random.Generator
    experiment: str = field(default_factory=lambda: f"shop-{uuid4().hex[:8]}")
    answers: dict[int, Recommendation] = field(default_factory=dict)
    due: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)  # (at which decision, its id, feedback)
    sold: float = 0.0
    returned: float = 0.0

    @property
    def n(self) -> int:
        """How many visits there are."""
        return len(self.world.users)

    async def play(self, client: Client) -> None:
        """All visits, a step at a time; in between an editor, a nightly job, purchases and refunds."""
        await client.put_experiment(self.experiment, EXPERIMENT | {"arms": arms(1)})
        steps, start = range(0, self.n, STEP), time.monotonic()
        third = len(steps) // 3
        for step, first in enumerate(steps):
            if step in (third, 2 * third):
                await self.edit(client, "paused" if step == third else "active", first)
            if step == third + third // 2:
                await client.put_arms(self.experiment, arms(2))
                still = (await client.get_arm(self.experiment, PAUSED))["status"]
                say(f"the nightly job sends all offers anew, and {PAUSED} is still {still}")
            visits = iter(range(first, min(first + STEP, self.n)))
            await asyncio.gather(*(self.visit(client, visits) for _ in range(AT_ONCE)))
            await self.deliver(client, first)
            if sys.stderr.isatty():
                rate = len(self.answers) / (time.monotonic() - start)
                print(f"\r{len(self.answers):,} of {self.n:,} decisions, {rate:,.0f}/s ", end="", file=sys.stderr)
        while self.due:  # the weeks after
            await self.deliver(client, self.due[0][0] + STEP)

    async def visit(self, client: Client, visits: Iterator[int]) -> None:
        """Visitors, one after the other: each sees an offer, and may click, and buy some time later."""
        for i in visits:
            shown = await client.recommend(
                self.experiment, self.world.contexts[i], user_id=self.world.users[i], fallback="bestsellers"
            )
            self.answers[i] = shown
            arm = list(OFFERS).index(shown.arm)
            assert self.world.eligible[i, arm] or shown.error, f"{shown.arm} was shown to {self.world.contexts[i]}"
            if shown.decision_id is None:
                continue  # what was not logged takes no feedback
            if self.rng.random() < self.world.click[i, arm]:
                client.enqueue_feedback(self.experiment, decision_id=shown.decision_id, event="click")
            if self.rng.random() < self.world.buy[i, arm]:
                self.buy(i, shown.decision_id)

    def buy(self, i: int, decision_id: str) -> None:
        """A purchase that comes late, and what of it goes back later still."""
        ((euros,), (back,)), order = amounts(self.rng, 1), f"order-{i}"
        bought = i + int(self.rng.exponential(self.n / 20))
        purchase = {"decision_id": decision_id, "event": "purchase", "value": euros, "event_id": order}
        heapq.heappush(self.due, (bought, order, purchase))
        if back:  # the warehouse knows the customer, not the decision
            refund = {"user_id": self.world.users[i], "event": "purchase", "value": back, "refund_of": order}
            late = bought + 2 * STEP + int(self.rng.exponential(self.n / 20))
            heapq.heappush(self.due, (late, f"return-{i}", refund | {"event_id": f"return-{i}"}))
        self.sold, self.returned = self.sold + euros, self.returned + back

    async def deliver(self, client: Client, now: int) -> None:
        """Send what is due, and wait until it has arrived."""
        while self.due and self.due[0][0] <= now:
            client.enqueue_feedback(self.experiment, **heapq.heappop(self.due)[2])
        await client.flush()

    async def edit(self, client: Client, status: str, first: int) -> None:
        """What an editor does to an offer; from now on the truth knows it, too."""
        await client.patch_arm(self.experiment, PAUSED, {"status": status})
        arm = list(OFFERS).index(PAUSED)
        self.world.eligible[first:, arm] = status == "active"
        say(f"an editor sets {PAUSED} to {status}")

    def truth(self) -> dict[str, float]:
        """What a decision earns in the learned slice more than at random, in truth: chances, not what happened."""
        euros, back = amounts(np.random.default_rng(0), 1_000_000)
        purchase = float(np.minimum(euros - back, CAP).mean())
        rows = [i for i, shown in self.answers.items() if shown.slice_name == "learned"]
        column = {offer: a for a, offer in enumerate(OFFERS)}
        seen = [column[self.answers[i].arm] for i in rows]
        open_ = self.world.eligible[rows]
        click, buy = self.world.click[rows], self.world.buy[rows] * purchase

        def gain(worth: Numbers, chosen: Any) -> float:
            at_random = (worth * open_).sum(1) / open_.sum(1)
            return float((worth[range(len(rows)), chosen] - at_random).mean())

        worth = CLICK * click + buy
        best = gain(worth, np.where(open_, worth, -1).argmax(1))
        return {"sum": gain(worth, seen), "click": gain(click, seen), "purchase": gain(buy, seen), "possible": best}


def say(line: str) -> None:
    """A line of the story."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(line, file=sys.stderr if "--json" in sys.argv else sys.stdout, flush=True)


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """The address of a server: of the one that is there, or of one with a store of its own, which ends with this."""
    if url is not None:
        yield url
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server ends with us, whoever ends us
    with tempfile.TemporaryDirectory(prefix="shop-") as place, Path(place, "log").open("w+") as log:
        address = Path(place, "data", "server.json")
        command = [f"{sysconfig.get_path('scripts')}/bandit-server", "serve", "--data-dir", str(address.parent)]
        with subprocess.Popen([*command, "--port", "0"], stdout=log, stderr=log, start_new_session=True) as process:  # noqa: S603 - ours
            try:
                while not address.exists():
                    if process.poll() is not None:
                        log.seek(0)
                        sys.exit(f"the server ended:\n{log.read()}")
                    time.sleep(0.05)
                found = json.loads(address.read_text())
                yield f"http://{found['host']}:{found['port']}"
            finally:
                process.terminate()


async def main(url: str, decisions: int, seed: int, as_json: bool) -> None:
    """Play, ask for the lift, and hold the truth against it."""
    rng, start = np.random.default_rng(seed), time.monotonic()
    run = Run(World.made(rng, decisions), rng)
    async with Client(url) as client:
        while not await client.ready():  # noqa: ASYNC110 - it is another process that gets ready
            await asyncio.sleep(0.05)
        try:
            await run.play(client)
            counts = client.feedback_counts
            say(f"{run.sold:,.2f} euros were spent, {run.returned:,.2f} went back; {counts}")
            if fallbacks := sum(answer.error is not None for answer in run.answers.values()):
                say(f"{fallbacks} visitors saw the fallback, for the server was too slow")
            lift = (await client.evaluation(run.experiment))["lift"]
        finally:
            with contextlib.suppress(ClientError):  # not to hide what went wrong
                await client.delete_experiment(run.experiment, confirm=True)
    truth, effect = run.truth(), lift["effect"]
    covered = None if effect["low"] is None else effect["low"] <= truth["sum"] <= effect["high"]
    took = time.monotonic() - start
    if as_json:
        told = {"seed": seed, "decisions": decisions, "seconds": took, "lift": lift, "truth": truth, "covered": covered}
        print(json.dumps(told | {"feedback": vars(counts), "fallbacks": fallbacks}))
        return
    parts = f"click {truth['click']:+.4f}, purchase {truth['purchase']:+.3f}; {truth['possible']:.3f} are possible"
    print(f"\nwhat we say: {lift['sentence']}\nthe truth:   {truth['sum']:.3f} a decision ({parts})")
    print(f"covered:     {'nothing was said' if covered is None else 'yes' if covered else 'no'}, after {took:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="a server that runs; by default one is started")
    parser.add_argument("--decisions", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one object")
    given = parser.parse_args()
    with server(given.url) as address:
        asyncio.run(main(address, given.decisions, given.seed, given.json))
