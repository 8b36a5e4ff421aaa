"""What a report says whatever the log: the introduction of each section, and its words explained."""

from __future__ import annotations

from typing import NamedTuple

from simulator.ope.terms import ESTIMATORS

INTRODUCTION = {
    "slices": (
        "What users of one slice earned, less what users of the other earned, in the decisions in which both had a "
        "share. A sequence holds however often one looks, each reward for itself. “More” is how many decisions more "
        "would make it clear, if it is as large as it looks."
    ),
    "values": (
        "Sentences, differences, segments and windows of this report use DR, whatever the other estimators say: to "
        "choose the estimator after seeing the values would be to choose the result."
    ),
    "differences": (
        "Both sides of a difference are estimated on the same decisions, so shared noise cancels out: a "
        "difference can be clear even where the intervals of the two values overlap."
    ),
    "weights": (
        "A decision counts for a target by its weight: how much more often the target would have shown that arm than "
        "the log did. A few large weights mean that a few decisions dominate the estimate; effective n is the number "
        "of decisions by the target itself that would be as informative."
    ),
    "arms": (
        "What each arm earned when it was shown, decisions counted by 1 / propensity, so that arms which were shown "
        "to different people or at different times are compared on all to whom they could be shown."
    ),
    "segments": (
        "A segment that stands out is a reason for a new experiment, not yet a finding: the log could have been split "
        "in many other ways."
    ),
    "time": (
        "A difference that shrinks from window to window may be a novelty effect that wears off; one that grows may be "
        "a policy or visitors learning."
    ),
    "model": (
        "DM, DR and related estimators use a model of the reward. With a poor model DR and SNDR stay valid, only with "
        "wider intervals; DM does not."
    ),
    "settings": (
        "Not set means: all estimators; q_fit on other splits, or on the past only where the log’s policy learned; tau "
        "and lam by their authors’ bounds; rewards from 0 to 1, or the range in the log if it is wider."
    ),
    "guide": (
        "An estimator says, from the log of one policy, what another one would have earned. No estimator helps where "
        "the logging policy never did what the target would do, or where the logged propensities are wrong."
    ),
}


class Term(NamedTuple):
    """A word, what it means, and where that is from."""

    word: str
    meaning: str
    paper: str = ""


TERMS = (
    Term(
        "can be believed",
        "Effective n is at least 50 and no handful of decisions, logged or possible, dominates the estimate: the "
        "interval is a normal (or bootstrap) one, for a single look. At least 95 in 100 such 95 % intervals contain "
        "the true value, but not if they are looked at again and again while the log grows.",
    ),
    Term(
        "wide but safe",
        "A few decisions could dominate the estimate, or rewards are rare or skewed: a normal interval would be too "
        "narrow, so a confidence sequence is given. It holds for any number of decisions, however often it is looked "
        "at, and while the mean drifts. The notes say how many more decisions, how much more exploration or which cap "
        "a normal interval needs; with a cap, the value is of the capped reward.",
        "https://arxiv.org/abs/2010.09686",
    ),
    Term(
        "bias not included",
        "The interval covers the expectation of this biased estimator, not the true value.",
    ),
    Term(
        "In doubt",
        "Problems of the log that no interval accounts for: rows that may be copies, rewards that may still come, rows "
        "that could not be used, arms shown too rarely for their propensities, a cap that reverses a sign.",
    ),
    Term(
        "no answer",
        "A check failed, so the log or its randomisation is broken; or the target always plays arms that could not "
        "have been shown. Any number would be a guess, and none should be used.",
    ),
    Term(
        "effective n",
        "How many decisions by the target itself would be as informative: n² / Σ Σ π² / μ, over the probabilities of "
        "all arms, not only of those shown. Where the log has only the propensity of the arm shown, it is computed "
        "(optimistically) from the weights of the decisions.",
    ),
)


def terms() -> list[Term]:
    """The words of a report, each estimator among them."""
    return [*TERMS, *(Term(each.label, each.meaning, each.paper) for each in ESTIMATORS.values())]
