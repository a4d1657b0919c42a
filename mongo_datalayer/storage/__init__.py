"""One conversation of any length, for Chainlit's threads and ChatKit's."""
