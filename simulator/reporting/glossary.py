"""What a report says whatever the log: the introduction of each section, and its words explained."""

from __future__ import annotations

from typing import NamedTuple

INTRODUCTION = {
    "values": (
        "Sentences, differences, segments and windows of this report use DR, whatever the others say: choosing the "
        "estimator after seeing the values would be choosing the answer."
    ),
    "differences": (
        "Both sides of a difference are seen on the same decisions, so what is common to them cancels out: a "
        "difference can be clear where intervals of the values overlap."
    ),
    "weights": (
        "A decision counts for a target by its weight: how much more often the target would have shown that arm than "
        "the log did. Few large weights mean that few decisions decide the answer; effective n says how many decisions "
        "of the target’s own would say as much."
    ),
    "arms": (
        "What each arm earned when it was shown. Unless all arms were shown at random, they met different people: that "
        "one earned more than another does not mean that it would earn more everywhere."
    ),
    "segments": (
        "A segment that stands out is a reason for a new experiment, not yet a finding: the log could have been cut in "
        "other ways too."
    ),
    "time": (
        "A difference that shrinks from window to window may be novelty that wears off; one that grows, something that "
        "is learned."
    ),
    "model": (
        "DM, DR and their kin use a model of the reward. DR and SNDR stay right with a poor one, only wider; DM "
        "does not."
    ),
    "settings": (
        "Not set means: all estimators; q_fit on other folds, or on the past only where the log’s policy learned; tau "
        "and lam by their authors’ bounds; rewards from 0 to 1, or as far as the log’s go."
    ),
    "guide": (
        "An estimator answers what a policy would have earned from the log of another one. None helps where the log "
        "never did what the target would do, or where its propensities are wrong."
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
        "Effective n is at least 50 and no few decisions could decide the value, drawn or not: the interval is a "
        "normal (or bootstrap) one, for one look. Of a hundred such 95 % intervals ninety-five or more hold the true "
        "value; looked at again and again while the log grows, they do not.",
    ),
    Term(
        "wide but safe",
        "Few decisions could decide the value, or rewards are rare or uneven: a normal interval would be too narrow, "
        "so a confidence sequence is given. It holds for any number of decisions, however often it is looked at, and "
        "while rates move. It is told how many decisions, how much exploration or which cap an interval takes; "
        "with a cap, the answer is of the capped reward.",
        "https://arxiv.org/abs/2010.09686",
    ),
    Term(
        "bias not included",
        "The interval is around what this estimator would say of endless data, not around the truth.",
    ),
    Term(
        "In doubt",
        "What was found in the log that no interval holds: rows that may be copies, rewards that may still come, rows "
        "that could not be used, arms shown too rarely for their propensities, a cap that turns an answer round.",
    ),
    Term(
        "no answer",
        "A check failed, so that the log or its draw is broken, or the target plays what could never be shown: any "
        "number would be a guess, and none should be used.",
    ),
    Term(
        "effective n",
        "How many decisions drawn by the target itself would say as much: n² / Σ Σ π² / μ over the probabilities of "
        "all arms, not of those drawn only. Where the log has only the propensity of the arm shown it is "
        "(optimistically) taken from the decisions.",
    ),
    Term(
        "IPS, SNIPS, clipped IPS",
        "Rewards weighted by w = π / μ, the target’s probability by the log’s; divided by the sum of weights; with "
        "weights cut off.",
    ),
    Term("DM", "What a model of the reward predicts for the target: as good as the model, and no better."),
    Term(
        "DR, SNDR, MRDR",
        "The model’s prediction, corrected by the weighted error of that prediction: right if propensities are right, "
        "however poor the model. SNDR divides by the weights; MRDR fits the model for a small variance.",
        "https://arxiv.org/abs/1503.02834",
    ),
    Term(
        "SWITCH-DR, DRos",
        "DR that trusts the model alone where weights are large, or shrinks large weights: less spread for some bias.",
        "https://arxiv.org/abs/1907.09623",
    ),
    Term(
        "replay",
        "The mean reward of the decisions in which the target would have shown the same arm, accepted so that what is "
        "left is as if the target itself had decided.",
        "https://arxiv.org/abs/1003.5956",
    ),
)
