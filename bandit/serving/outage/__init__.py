"""While the store is away: `watch` notices and probes, `unlogged` decides without it where an experiment says so.

`snapshot` keeps on the disk what `standby` answers from where a server starts while the store is away. Imports
`bandit.replica` and below, and from its own room what stands before `batcher`. Begin with `watch`.
"""
