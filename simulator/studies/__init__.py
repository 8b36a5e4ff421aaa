"""Experiments with policies: played in an environment, replayed on a log, swept, compared across seeds, powered.

Imports everything but reporting and commands. Begin with `run` and `replay`.
"""
