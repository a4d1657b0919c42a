"""Migration from other data layers."""
