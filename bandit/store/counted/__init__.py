"""The series and outcomes in each store: `promises` says what they keep, `in_redis` and `in_memory` keep it.

Imports `bandit.log` and, of `bandit.store`, what its stores are made of. Begin with `promises`.
"""
