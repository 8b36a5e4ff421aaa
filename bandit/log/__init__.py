"""The log's bytes: `records` packs and reads its entries, `events` turns them into what the sums add up,
`columns` does so quickly for many at once.

Pure, so that the log alone says what was learned. Imports `bandit.core` and below. Begin with `records`.
"""
