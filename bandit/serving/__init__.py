"""From a request to its answer: `requests` and `feedback` check its JSON, `batcher` decides it, `service` holds all.

`reading` is JSON as such, `gathered` the answers to a batch. Documents and their changes (`experiments`, `changes`) and
`evaluation` are the slow paths. What feedback is credited with is judged in the store. `api/` is HTTP. Imports
`bandit.replica` and below. Begin with `service`.
"""
