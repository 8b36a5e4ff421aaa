"""Requests that wait for a micro-batch: what each is (`pending`), what may become of it (`outcomes`).

`admission` says when no more may wait, `gathered` has a batch's answers as they come. Imports `bandit.store` and below,
and of `serving` the requests and the batcher. Begin with `pending`.
"""
