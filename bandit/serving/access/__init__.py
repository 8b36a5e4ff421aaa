"""Who is let in, over HTTP: `gate` decides, for every way a request can come; `routes` tell of keys and changes.

`cors` is what browsers ask first, `hosts` whose pages, `headers` what ours carry, `audited` the one way of a change.
Imports `bandit.access` and below, and `serving.api.problems`. Begin with `gate`.
"""
