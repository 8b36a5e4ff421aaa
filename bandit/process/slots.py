"""A slot for each worker process, in memory that all of them share: what it has counted, whole at any moment.

The parent makes one file in memory, without a name, so that a read-only root is enough; it outlives a worker that is
killed. A process takes a slot that nobody uses, and goes on from the numbers that its last owner left there: sums never
go back. There are twice as many slots as workers, as a new one may start before the old one has ended.

    head          when a reader last asked everybody to publish; then of each slot the process that has it, or 0
    slot          two halves {sequence, time, length, checksum, bytes}, written in turn: one is always whole
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from bandit.telemetry.counters import Counters, Snapshot, pack, unpack

HALF = 16 << 20  # bytes; only those that are written take memory (`tests/bandit/telemetry/` proves that all fits)
_NUMBER = struct.Struct("<Q")
_HEAD = struct.Struct("<QQQI")  # sequence, time in ns, length, checksum
MASK = 0xFFFFFFFF
PAGE = mmap.PAGESIZE
PERIOD = 0.2  # seconds between two publications, at least: what is lost of a worker that is killed under load
SHARE = 50  # times as long as one took: publishing takes 2 % of a worker at most
WAIT = 0.1  # seconds that a reader waits for the other workers, at most


class Published(NamedTuple):
    """What a slot has."""

    number: int
    lives: bool  # a process has the slot
    sequence: int  # of what was written last; 0: nothing
    at: int  # when it was written (`time.monotonic_ns()`)
    data: bytes


def shared_file(name: str, size: int) -> int:
    """The descriptor of a file of zeros that other processes can map; in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        made = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            made = os.dup(file.fileno())
    os.ftruncate(made, size)
    return made


class Slots:
    """All slots, as the parent and every worker see them.

    Args:
        descriptor: of the file; `made` makes one.
        count: how many slots it has.
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor, self.count = descriptor, count
        self._start = -(-_NUMBER.size * (count + 1) // PAGE) * PAGE
        self._head = mmap.mmap(descriptor, self._start)

    @classmethod
    def made(cls, workers: int) -> Slots:
        """New slots for so many workers."""
        count = 2 * workers
        head = -(-_NUMBER.size * (count + 1) // PAGE) * PAGE
        return cls(shared_file("bandit-counters", head + 2 * HALF * count), count)

    # the parent

    def take(self) -> int:
        """The number of a slot that nobody has; it is kept until `give`."""
        owners = [self._number(1 + slot) for slot in range(self.count)]
        slot = owners.index(0)
        self._put(1 + slot, 1)
        return slot

    def give(self, slot: int) -> None:
        """The process that had the slot has ended: the next one may go on from there."""
        self._put(1 + slot, 0)

    def close(self) -> None:
        """End it all."""
        self._head.close()
        os.close(self.descriptor)

    # a worker

    def ask(self) -> int:
        """Ask every worker to publish what it has by now; when that was (`time.monotonic_ns()`)."""
        now = time.monotonic_ns()
        self._put(0, now)
        return now

    @property
    def asked(self) -> int:
        """When somebody asked last."""
        return self._number(0)

    def write(self, slot: int, sequence: int, data: bytes) -> None:
        """Write under the sequence number after the last one.

        Raises:
            ValueError: it is more than a slot holds.
        """
        if len(data) > HALF - _HEAD.size:
            raise ValueError(f"{len(data)} bytes of counters do not fit a slot")
        head = _HEAD.pack(sequence, time.monotonic_ns(), len(data), zlib.crc32(data, sequence & MASK))
        os.pwrite(self.descriptor, head + data, self._place(slot, sequence % 2))

    def read(self, slot: int) -> Published:
        """What a slot has: the newest that is whole; nothing where nothing was ever written."""
        lives = self._number(1 + slot) != 0
        for _ in range(3):  # its owner may write while it is read
            whole = [found for half in (0, 1) if (found := self._half(slot, half)) is not None]
            if whole:
                return Published(slot, lives, *max(whole))
        return Published(slot, lives, 0, 0, b"")

    def _half(self, slot: int, half: int) -> tuple[int, int, bytes] | None:
        """(sequence, time, data) of one half; None where they do not belong together."""
        place = self._place(slot, half)
        sequence, at, length, checksum = _HEAD.unpack(os.pread(self.descriptor, _HEAD.size, place))
        data = os.pread(self.descriptor, min(length, HALF), place + _HEAD.size)
        return (sequence, at, data) if sequence and zlib.crc32(data, sequence & MASK) == checksum else None

    def _place(self, slot: int, half: int) -> int:
        return self._start + HALF * (2 * slot + half)

    def _number(self, at: int) -> int:
        number: int = _NUMBER.unpack_from(self._head, _NUMBER.size * at)[0]
        return number

    def _put(self, at: int, number: int) -> None:
        _NUMBER.pack_into(self._head, _NUMBER.size * at, number)


class Publisher:
    """Publishes one worker's counters in its slot, and reads those of all. Lives on the event loop.

    Args:
        slots: of this server.
        slot: this worker's own.
        counters: what this worker counts; they go on from what the slot has.
    """

    def __init__(self, slots: Slots, slot: int, counters: Counters) -> None:
        self._slots, self._slot, self._counters = slots, slot, counters
        before = slots.read(slot)
        self._sequence, self._answered, self._due = before.sequence, 0, 0.0
        if before.data:
            counters.load(unpack(before.data))

    def look(self) -> None:
        """Publish if somebody has asked for it, or something was counted and it is time: called again and again."""
        if (asked := self._slots.asked) > self._answered:
            self._answered = asked
            self.publish()
        elif self._counters.moved and time.monotonic() >= self._due:
            self.publish(gauges=False)

    def publish(self, *, gauges: bool = True) -> None:
        """Publish now."""
        begun = time.monotonic()
        self._counters.moved = False
        self._sequence += 1
        self._slots.write(self._slot, self._sequence, pack(self._own(gauges)))
        now = time.monotonic()
        self._due = now + max(PERIOD, SHARE * (now - begun))

    def _own(self, gauges: bool) -> Snapshot:
        if gauges:
            self._counters.look()
        return self._counters.snapshot()

    async def everyone(self) -> Sequence[tuple[str, bool, Snapshot]]:
        """(number, whether it lives, what it has counted by now) of every worker, this one first.

        A worker that does not publish within `WAIT` seconds counts with what it has published last.
        """
        asked = self._answered = self._slots.ask()
        others = [slot for slot in range(self._slots.count) if slot != self._slot]
        end = time.monotonic() + WAIT
        while True:
            found = [self._slots.read(slot) for slot in others]
            if all(each.at >= asked or not each.lives for each in found) or time.monotonic() > end:
                break
            await asyncio.sleep(0.005)
        theirs = [(str(each.number), each.lives, unpack(each.data)) for each in found if each.data]
        return [(str(self._slot), True, self._own(gauges=True)), *theirs]
