"""A self-hosted online contextual-bandit decision server."""

__version__ = "0.1.0"
