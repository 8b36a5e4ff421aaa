"""Requests that wait for a micro-batch: what each is (`pending`) and what may become of it (`outcomes`).

Imports `bandit.store` and below, and `requests` beside it. Begin with `pending`.
"""
