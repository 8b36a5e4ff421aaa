"""Offline replay: what a policy would have earned on logged or fully known data."""
