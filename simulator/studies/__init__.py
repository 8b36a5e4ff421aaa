"""Experiments with policies: played in an environment, replayed on a log, compared; and power.

Imports `simulator.policies` and below. Begin with `run` and `replay`.
"""
