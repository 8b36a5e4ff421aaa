"""How much memory and disk a rate of decisions needs. Every figure of an entry is computed from the records' layout.

The store's own overhead is measured (Valkey 9.1, 64 bit); `test_sizing.py` holds the sum against a real one.
"""

from __future__ import annotations

from dataclasses import dataclass

from bandit.log.records import DECISION, FEEDBACK, SHOWN

STREAM = 12  # bytes of the stream beside an entry's record
KEY = 100  # bytes of a key beside its name and value
STATE = 106  # bytes of what is known of a rewarded decision: credits and events
TAIL = 40  # bytes of the eligible set and its probabilities, under LinUCB with up to a few hundred arms; softmax and
# inverse gap take 8 for each eligible arm
USER = 16  # bytes of what is kept of a user id
USER_LIST = 60  # bytes of a user's list of decisions with one in it, beside its key
CREDITED = 90  # bytes of what is kept of a user's event, beside its key and the ids in it
CALLER = 32  # bytes of a caller's id, as our client sends it
DAY = 86_400
FILE_DECISION = 50  # bytes that an entry's command takes in the append-only file beside the record
FILE_FEEDBACK = 1.6  # the file's bytes for feedback, by those in memory


@dataclass(frozen=True)
class Need:
    """What a rate of decisions needs, in bytes."""

    decision: int
    feedback: int
    arm: int
    log: int  # what the store holds at once: a reward window and a day of it
    sums: int
    per_day: int  # what the append-only file grows by in a day, before it is rewritten


def need(
    rate: float, *, d: int, arms: int, kinds: int, window: float, rewarded: float, named: bool, users: bool = False,
    refunds: float = 0.0,
) -> Need:  # fmt: skip
    """What `rate` decisions a second need.

    Args:
        rate: decisions a second.
        d: columns of the feature vector, with the intercept.
        arms: arms of the experiment.
        kinds: reward kinds.
        window: the reward window, in seconds; the log keeps a day more.
        rewarded: share of decisions that get feedback, in [0, 1].
        named: whether callers name their decisions and events (our client does).
        users: whether decisions name their user, each another one (the most that it takes).
        refunds: how long after the window events may be taken back, in seconds.
    """
    x = 2 * d
    decision = DECISION.size + x + SHOWN.size + TAIL + 16 + STREAM + (2 * CALLER + KEY if named else 0)
    decision += 2 * USER + KEY + USER_LIST if users else 0
    feedback = FEEDBACK.size + x + 8 * kinds + CALLER * named + STREAM + KEY + STATE
    event = USER + 2 * CALLER + KEY + CREDITED if users and named else 0
    feedback += event
    begun = DECISION.size + x + USER * users + 4 if refunds else 0  # of the decision's record
    feedback += begun + (3 * CALLER + KEY if refunds and named else 0)
    arm = 8 * (d * (d + 1) // 2 + kinds * d + kinds * (kinds + 1)) + KEY // 4
    held = rate * (window + DAY) * (decision + rewarded * feedback)
    held += rate * refunds * rewarded * (KEY + STATE + begun + event + (3 * CALLER + KEY if named else 0))
    written = rate * DAY * (decision + FILE_DECISION + rewarded * feedback * FILE_FEEDBACK)
    return Need(decision, feedback, arm, round(held), 2 * arms * arm, round(written))
