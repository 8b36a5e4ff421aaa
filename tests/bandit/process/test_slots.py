"""Slots: what a worker has counted outlives it, is whole at any moment, and is there for whoever asks."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bandit.process.slots import HALF, Publisher, Slots
from bandit.telemetry.counters import Counters

GAPS = "bandit_gaps_total"


@pytest.fixture
def slots() -> Iterator[Slots]:
    """Slots of a server of two workers."""
    made = Slots.made(2)
    yield made
    made.close()


def test_a_slot_is_taken_once_and_can_be_given_back(slots: Slots) -> None:
    """There are two a worker, so that a new worker has one before the old one has ended."""
    assert [slots.take() for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="not in list"):
        slots.take()
    slots.give(2)
    assert slots.take() == 2


def test_the_newest_that_is_whole_is_read(slots: Slots) -> None:
    """Whatever byte of a write came last before its writer was killed, the write before it stands."""
    place = slots._place(1, 1)
    slots.write(1, 3, b"third")
    third = os.pread(slots.descriptor, 100, place).rstrip(b"\0")
    slots.write(1, 1, b"first, and longer")
    first = os.pread(slots.descriptor, 100, place)
    slots.write(1, 2, b"second")
    for cut in range(1, len(third)):
        os.pwrite(slots.descriptor, first, place)
        os.pwrite(slots.descriptor, third[:cut], place)
        assert slots.read(1).data == b"second", cut
    os.pwrite(slots.descriptor, third, place)
    assert slots.read(1).data == b"third"


def test_a_slot_that_was_never_written_has_nothing(slots: Slots) -> None:
    """And what is too large for a slot is refused, not cut."""
    assert (slots.read(3).data, slots.read(3).sequence) == (b"", 0)
    with pytest.raises(ValueError, match="do not fit"):
        slots.write(0, 1, bytes(HALF))


def test_who_asks_gets_what_the_others_have_by_then(slots: Slots) -> None:
    """Not what they had published last: each publishes when it is asked, and then the answer is exact."""
    one, two = (Counters(), slots.take()), (Counters(), slots.take())
    asking, asked = Publisher(slots, one[1], one[0]), Publisher(slots, two[1], two[0])
    asked.publish()
    two[0].cell(GAPS, "e")[0] += 5  # and it was not published
    one[0].cell(GAPS, "e")[0] += 1

    async def both() -> object:
        async def looking() -> None:
            while True:
                asked.look()
                await asyncio.sleep(0.001)

        task = asyncio.ensure_future(looking())
        try:
            return [(lives, snapshot[GAPS]) for _, lives, snapshot in await asking.everyone()]
        finally:
            task.cancel()

    assert asyncio.run(both()) == [(True, {("e",): [1]}), (True, {("e",): [5]})]


def test_a_worker_that_does_not_answer_counts_with_what_it_published(slots: Slots) -> None:
    """Its event loop may be busy, or the process frozen: the others are shown all the same."""
    one, two = (Counters(), slots.take()), (Counters(), slots.take())
    asking, frozen = Publisher(slots, one[1], one[0]), Publisher(slots, two[1], two[0])
    two[0].cell(GAPS, "e")[0] += 5
    frozen.publish()
    two[0].cell(GAPS, "e")[0] += 5
    found = asyncio.run(asking.everyone())
    assert [snapshot.get(GAPS) for _, _, snapshot in found] == [{}, {("e",): [5]}]


WRITER = """
import sys
from bandit.process.slots import Publisher, Slots
from bandit.telemetry.counters import Counters
counters = Counters()
publisher = Publisher(Slots(int(sys.argv[1]), 4), 0, counters)
while True:
    counters.cell("bandit_gaps_total", "e")[0] += 1
    publisher.publish()
    print(int(counters.snapshot()["bandit_gaps_total"]["e",][0]), flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_what_it_had_said(slots: Slots) -> None:
    """Killed again and again, each successor goes on from what the one before had published: sums never go back."""
    slots.take()
    said = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(slots.descriptor)], pass_fds=[slots.descriptor], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            first = int(writer.stdout.readline())
            assert first > said
            for _ in range(50):
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            said = max([said, *map(int, writer.stdout.read().split(b"\n")[:-1])])
        counters = Counters()
        Publisher(slots, 0, counters)
        found = counters.snapshot()[GAPS]["e",][0]
        assert said <= found <= said + 1
        said = int(found)
