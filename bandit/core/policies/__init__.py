"""Policies: estimates in, probabilities out; one module a policy, and `Policy` names them all.

Imports of the room above: estimates, and names of features. Begin with `rule.py`, which says how to add one.
"""

from bandit.core.policies.fixed import Fixed, Shown, Uniform
from bandit.core.policies.linucb import EpsilonGreedy, LinUCB
from bandit.core.policies.rule import Rule, mixed

Policy = LinUCB | EpsilonGreedy | Uniform | Fixed

__all__ = ["EpsilonGreedy", "Fixed", "LinUCB", "Policy", "Rule", "Shown", "Uniform", "mixed"]
