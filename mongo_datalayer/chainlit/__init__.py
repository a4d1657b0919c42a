"""Chainlit's data layer."""
