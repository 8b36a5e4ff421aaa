"""Decision logs: read from whatever wrote them (`loaders/`), as tables on disk and as arrays in memory.

Imports `bandit.core` and `bandit.replica`, to read a server's own log. Begin with `log`, then `table`, and `bridge`
from one to the other.
"""
