"""Measures the data layer beside those that people would use instead, on the same work.

Run by ``scripts/bench``. What is compared and how to read it: ``docs/performance.md``.
"""
