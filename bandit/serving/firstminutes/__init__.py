"""The first minutes with a server: an experiment's document proposed from a sample of data.

Imports `bandit.serving.api` and `bandit.core`. Begin with `routes`; `sample` reads what was sent.
"""
