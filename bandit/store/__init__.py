"""Where the log and all else that outlives a process is kept.

`protocol` is what a store promises; `redis_store` keeps it with one Lua script a write (`lua/`), `memory_store` for
tests and a first look. Imports `bandit.log` and below. Begin with `protocol`, then `lua/append.lua`, where feedback is
judged.
"""
