"""The keys of the store, built in one place. All of one experiment and shard carry one hash tag: one cluster slot."""

from __future__ import annotations

from typing import NamedTuple

EXPERIMENTS = "bandit:experiments"
META = "bandit:meta"  # format version of the store, and the secret that user ids are hashed with
RESTORING = "restoring"  # the field there that says what is half restored
MODELS = "bandit:models"  # hash: bytes that an experiment's model takes in a worker, and since when (ms)
ACCESS_KEYS = "bandit:keys:{access}"  # hash: a row an API key, and their version
AUDIT = "bandit:audit:{access}"  # stream: who changed what
AUDIT_OPEN = "bandit:audit-open:{access}"  # hash: changes that are under way
EVERY = "bandit:*"  # all keys
FIRST = "bandit:{"  # of every key of an experiment
SHARD = 0  # one shard until traffic asks for more


class Keys(NamedTuple):
    """An experiment's keys. Not here, because `lua/append.lua` builds them from `prefix`:

    :d:ENTRY   credits and events of a rewarded or activated decision
    :i:CALLER  where a caller-named decision stands
    :r:CALLER  where the last one stands whose events may be taken back
    :u:USER    a user's last decisions
    :e:USER    what a user's events were credited to
    :m:HOUR    hash: what wrote nothing, by a status's letter and a minute of that hour (since 1970); kept for a day
    :h:DAY     the same by the hours of that day; kept for 91 days
    """

    prefix: str

    @classmethod
    def of(cls, name: str) -> Keys:
        """The keys of an experiment."""
        return cls(f"{FIRST}{name}/{SHARD}}}")

    @property
    def config(self) -> str:
        """Hash: the config, its version, generation and schema, whether it has been learned from."""
        return self.prefix + ":config"

    @property
    def log(self) -> str:
        """Stream: the log."""
        return self.prefix + ":log"

    @property
    def lease(self) -> str:
        """Hash: token and beat of the server that writes checkpoints."""
        return self.prefix + ":lease"

    @property
    def archive(self) -> str:
        """Hash: up to where the log is in an archive outside the store, in which one, and when that was last said."""
        return self.prefix + ":archive"

    @property
    def hold(self) -> str:
        """String: while it is there the log is not trimmed, as a backup is reading it."""
        return self.prefix + ":hold"

    @property
    def series(self) -> str:
        """Hash: a row of counts a minute and an hour, and the cursor that they are folded up to."""
        return self.prefix + ":series"

    @property
    def all(self) -> list[str]:
        """Those that one experiment has once, in the order in which `lua/configure.lua` takes them."""
        tables = self.table("sums"), self.table("base")
        return [self.config, self.log, *tables, self.lease, self.archive, self.series]

    def table(self, name: str) -> str:
        """Hash of `sums` or `base`: a row an arm, and the cursor that a pass has completed."""
        return f"{self.prefix}:{name}"

    def outcomes(self, minutes: bool, number: int) -> str:
        """Hash: what wrote nothing in an hour's minutes, or in a day's hours."""
        return f"{self.prefix}:{'m' if minutes else 'h'}:{number}"

    def producer(self, name: str) -> str:
        """String: a producer's last sequence number and its reply."""
        return f"{self.prefix}:p:{name}"
