"""Learners: policies that learn while they are played. The server's engine is one of them."""
