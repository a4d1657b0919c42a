"""A Chainlit app to go on from."""
