"""Requests that wait for a micro-batch: what each is (`pending`), what may become of it (`outcomes`).

`admission` says when no more may wait. Imports `bandit.store` and below, and `requests` beside it. Begin with
`pending`.
"""
