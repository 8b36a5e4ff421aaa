"""Processes: the supervisor, its workers, the embedded store, and the protocol on their sockets.

Imports `bandit.serving` and below. Begin with `supervisor`, which starts `worker` as a program of its own.
"""
