"""Keyword search: the pattern, and the optional index."""
