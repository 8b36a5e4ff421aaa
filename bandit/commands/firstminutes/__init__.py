"""An experiment as a file that people write: `init` makes one from questions or a sample, `apply` puts it live.

Imports `bandit.core`, typer and the standard library. Begin with `asked` (the questions), then `applied`; `written` and
`read` are the file's two directions, TOML with comments, and `server` the few requests that `apply` sends.
"""
