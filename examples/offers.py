"""Which offer should this visitor see? Creates an experiment, decides for a few visitors, and reports their clicks.

Run a server (`bandit-server serve`), then: python examples/offers.py http://127.0.0.1:8080
"""

import asyncio
import sys

from bandit.client import Client

EXPERIMENT = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "returning", "type": "boolean"},
    ],
    "rewards": {"click": {}, "sale": {"range": [0, 500], "weight": 0.02}},
    "arms": [
        {"id": "discount", "payload": {"headline": "10 % off today"}},
        {"id": "bundle", "payload": {"headline": "Three for two"}},
        {"id": "newsletter", "payload": {"headline": "Be the first to know"}},
    ],
}
VISITORS = [{"age": 23, "returning": False}, {"age": 61, "returning": True}, {"age": 38, "returning": True}]


async def main(url: str) -> None:
    """Decide for each visitor, and report that the returning ones clicked and bought."""
    async with Client(url) as client:
        await client.put_experiment("offers", EXPERIMENT)
        for visitor in VISITORS:
            decision = await client.recommend("offers", visitor)
            shown = decision.arms[0]
            print(f"{visitor} sees {shown.arm!r}, shown with probability {shown.propensity:.3f}")
            if visitor["returning"]:
                which = decision.decision_id
                await client.feedback("offers", decision_id=which, event="click")
                # with the order's own number: sent twice it counts once, another order is another sale
                order = f"order-of-{which}"
                receipt = await client.feedback("offers", decision_id=which, event="sale", value=79.9, event_id=order)
                print(f"  clicked and bought for {receipt.credited}: {receipt.status}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"))
