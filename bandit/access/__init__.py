"""Who may do what: API keys and their roles, how often, and the log of who changed what.

`keys` is a key and its text, `ring` the keys as a server remembers them, `manage` makes and ends them in the store,
`limits` counts requests over all workers, `audit` is an entry of the audit log. No HTTP: that is `serving.access`.
Imports `bandit.store` and below. Begin with `keys`.
"""
