"""Policies: estimates in, probabilities out; one module a policy, and `Policy` names them all.

Imports of the room above: estimates, draws, and names of features. Begin with `rule.py`, which says how to add one;
`lists.py` draws lists by any of them.
"""

from bandit.core.policies.fixed import Fixed, Shown, Uniform
from bandit.core.policies.inversegap import InverseGap
from bandit.core.policies.linucb import EpsilonGreedy, LinUCB
from bandit.core.policies.rule import Exploring, Rule, mixed
from bandit.core.policies.softmax import Softmax
from bandit.core.policies.thompson import Thompson

Policy = LinUCB | EpsilonGreedy | Thompson | InverseGap | Softmax | Uniform | Fixed

__all__ = [
    "EpsilonGreedy", "Exploring", "Fixed", "InverseGap", "LinUCB", "Policy", "Rule", "Shown", "Softmax", "Thompson",
    "Uniform", "mixed",
]  # fmt: skip
