"""Which arms wait to be refreshed, and in which order."""

from __future__ import annotations

from itertools import islice

from bandit.arrays import Int

SHARE = 4  # one arm in so many is one that learned nothing, while others wait that did


class Waiting:
    """Arms that learned something, oldest first, and after them those whose factors are only to be made anew.

    So what was learned is decided with soon, also while a whole catalogue is factored again.
    """

    def __init__(self) -> None:
        self.learned: dict[int, bool] = {}  # True where the factor is out of date
        self.stale: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.learned) + len(self.stale)

    def mark(self, arms: Int, factor: bool) -> None:
        """These arms learned something; `factor`: so that their factor is out of date."""
        for arm in arms.tolist():
            whole = factor or arm in self.stale
            self.stale.pop(arm, None)
            self.learned[arm] = whole or self.learned.get(arm, False)

    def renew(self, K: int) -> None:
        """The factors of all K arms are out of date."""
        self.learned = dict.fromkeys(self.learned, True)
        self.stale = {arm: None for arm in range(K) if arm not in self.learned}

    def first(self, size: int) -> list[tuple[int, bool]]:
        """So many arms from the front, or one more, each with whether its factor is out of date: beside arms that
        learned something few others, but always one, so that these come to an end under whatever load.
        """
        learned = list(islice(self.learned.items(), max(1, size - size // SHARE if self.stale else size)))
        others = max(1, len(learned) // SHARE) if learned else size
        return [*learned, *((arm, True) for arm in islice(self.stale, others))]

    def done(self, arms: list[tuple[int, bool]]) -> None:
        """These arms wait no longer."""
        for arm, _ in arms:
            self.learned.pop(arm, None)
            self.stale.pop(arm, None)
