"""Visitors through real HTTP: each asks for an area, and clicks if that visitor is known to have seen it."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import uvloop
from numpy.typing import NDArray
from rich.console import Console

from bandit.client import Client, ClientError
from bandit.commands.demo import show
from bandit.commands.demo.child import ChildError, Server
from bandit.commands.demo.results import Baselines, Rounds, Tally, baselines

CONNECTIONS = 8
READY = 60.0  # seconds a listening server may take to fold its log


class Visited(Rounds, Protocol):
    """What sending visitors needs to know of a data set."""

    def document(self) -> dict[str, Any]:
        """The experiment for the server."""

    def contexts(self, i: int) -> dict[str, bool | float]:
        """The context of visitor i."""


def send_all(server: Server, data: Visited, order: NDArray[np.int64], console: Console) -> Tally:
    """What the answers said, after every visitor of the order was sent once.

    Raises:
        ChildError: if the server ended, never became ready, or refused a request.
    """
    try:
        return uvloop.run(_session(server, data, order, console))
    except ClientError as error:
        server.check_alive()
        raise ChildError(f"the server at {server.url} refused: {error}") from error


async def _session(server: Server, data: Visited, order: NDArray[np.int64], console: Console) -> Tally:
    """Create the experiment, send all visitors, and show how it goes."""
    async with Client(server.url, connections=CONNECTIONS, decision_deadline=READY) as client:
        await _until_ready(server, client)
        await client.put_experiment(data.name, data.document())
        tally = Tally.of(len(order), f"demo-{uuid4().hex[:12]}", time.monotonic())
        sending = asyncio.create_task(_send(client, data, order.tolist(), tally))
        try:
            await _watch(server, sending, tally, baselines(data, order), console)
        finally:
            sending.cancel()
    return tally


async def _until_ready(server: Server, client: Client) -> None:
    """Return once the server can decide."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY
    while not await client.ready():
        server.check_alive()
        if loop.time() > deadline:
            raise ChildError(f"the server at {server.url} was not ready within {READY:.0f} s")
        await asyncio.sleep(0.02)


async def _send(client: Client, data: Visited, order: Iterable[int], tally: Tally) -> None:
    """All visitors, in order, each by whichever of the connections is free next."""
    waiting = iter(order)
    tasks = [asyncio.create_task(_visit(client, data, waiting, tally)) for _ in range(CONNECTIONS)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:  # gather leaves the others running when one fails
            task.cancel()


async def _visit(client: Client, data: Visited, waiting: Iterator[int], tally: Tally) -> None:
    """One connection's share of the visitors."""
    column = {arm: a for a, arm in enumerate(data.arms)}
    for i in waiting:
        choice = await client.recommend(data.name, data.contexts(i), decision_id=f"{tally.run}-{i}")
        reward = float(data.reward[i, column[choice.arm]])
        if reward:
            await client.feedback(data.name, decision_id=choice.decision_id, event=data.event)
            tally.clicks += 1
        tally.add(i, reward, choice.model_position)


async def _watch(
    server: Server, sending: "asyncio.Task[None]", tally: Tally, known: Baselines, console: Console
) -> None:
    """Show the tally until everything is sent; the task's failure, or the server's death, is raised here."""
    with show.progress(console, tally, known) as refresh:
        while not sending.done():
            await asyncio.wait({sending}, timeout=0.25)
            server.check_alive()
            refresh()
    await sending
