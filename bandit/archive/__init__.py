"""Copies of the store's data outside it: backups, which are restored whole, and the archive of what has left the logs.

Imports `bandit.store` and `bandit.replica`, and what they stand on. Begin with `backup` and `restore` (`frames` and
`manifest` are their files), or with `archiver` (`files` are its files, `joined` reads them with the log as one).
"""
