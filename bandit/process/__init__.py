"""Processes: the supervisor, its workers, the embedded store, and HTTP on their sockets (`wire`, `deadline`, `direct`).

Imports `bandit.serving` and below. Begin with `supervisor`, which starts `worker` as a program of its own.
"""
