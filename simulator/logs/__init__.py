"""Decision logs: read from whatever wrote them (`loaders/`), as tables on disk and as arrays in memory.

Imports `bandit` and `simulator.wording`. Begin with `log`, then `table` and `bridge`, from one to the other.
"""
