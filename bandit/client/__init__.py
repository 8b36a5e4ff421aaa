"""The Python client of the server: `Client` for programs with an event loop, `SyncClient` for all others.

`examples/offers.py` shows it at work. Needs the extra `client` (aiohttp). Imports no other room, as it is a part of
other programs. Begin with `client`; `connection` repeats calls, `queue` sends feedback in the background, `outage`
remembers that the server is away, `wire` has what is sent and answered.
"""

from bandit.client.client import Client
from bandit.client.queue import Counts, Lost
from bandit.client.sync import SyncClient
from bandit.client.wire import ClientError, Receipt, Recommendation, Shown, Told, Wanted, Wish

__all__ = [
    "Client",
    "ClientError",
    "Counts",
    "Lost",
    "Receipt",
    "Recommendation",
    "Shown",
    "SyncClient",
    "Told",
    "Wanted",
    "Wish",
]
