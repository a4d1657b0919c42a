"""The data layers that are compared."""
