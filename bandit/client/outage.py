"""What is remembered of an outage, so that not every page waits for a server that is known to be away."""

from typing import Final

from bandit.client.wire import ClientError

CALLS: Final = 5  # calls in a row that got no answer: from then on the server is known to be away
PROBE: Final = 1.0  # seconds after which, while it is, another call is let through to see


class Outage:
    """Whether the server is known to be away. Times are seconds of one clock, which callers pass."""

    def __init__(self) -> None:
        self._unanswered, self._next = 0, 0.0
        self._last: tuple[int, str, str] = (0, "", "")

    @property
    def lasts(self) -> bool:
        """Whether the server was away when it was last asked: a call that looks whether it is back is not repeated."""
        return self._unanswered >= CALLS

    def known(self, now: float) -> ClientError | None:
        """Why a call need not be made; None where it is to be made, also as the one that probes."""
        if not self.lasts or now >= self._next:
            self._next = now + PROBE
            return None
        status, code, detail = self._last
        return ClientError(status, code, f"not asked, after {self._unanswered} calls without an answer; {detail}")

    def learn(self, error: ClientError | None) -> None:
        """Remember how a call ended: any answer, a refusal too, ends the outage."""
        if error is None or not error.unanswered:
            self._unanswered = 0
            return
        self._unanswered += 1
        self._last = error.status, error.code, error.detail
