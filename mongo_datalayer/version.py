"""The version of this package, and of what it stores."""

VERSION = "0.1.0"

SCHEMA_VERSION = 1
"""Goes up when an older package could not work with what this one stores."""
