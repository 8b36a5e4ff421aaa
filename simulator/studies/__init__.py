"""Experiments with policies: played in an environment, replayed on a log, compared; and power.

Imports everything but reporting and commands. Begin with `run` and `replay`.
"""
